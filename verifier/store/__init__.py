"""Where verified identities are kept."""
