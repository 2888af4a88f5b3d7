"""Keycloak: access tokens marked by ``typ`` in the payload, the client in ``azp``, realm roles."""

from verifier.presets.preset import Preset

PRESET = Preset(
    title="Keycloak",
    defaults={
        "token_types": ["JWT", "at+jwt"],
        "scope_claims": ["scope", "/realm_access/roles"],
        "client_id_claims": ["azp", "client_id"],
        "required_claims": {"typ": "Bearer"},
    },
    note="`issuer` is `https://host/realms/<realm>`. Realm roles count as scopes. "
    "Add an audience mapper: by default `aud` is `account`, or absent.",
)
