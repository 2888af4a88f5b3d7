"""A development issuer, for trying the service out without an identity provider."""
