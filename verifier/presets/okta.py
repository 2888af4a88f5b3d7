"""Okta: scopes as an array in ``scp``, the client in ``cid``."""

from verifier.presets.preset import Preset

PRESET = Preset(
    title="Okta",
    defaults={
        "algorithms": ["RS256"],
        "token_types": ["JWT", "at+jwt"],
        "scope_claims": ["scp"],
        "client_id_claims": ["cid"],
    },
    note="For a custom authorization server, such as `https://acme.okta.com/oauth2/default`. "
    "Tokens of the org server are Okta's own and cannot be verified by anyone else.",
)
