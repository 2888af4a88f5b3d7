"""Auth0: permissions of RBAC beside the scope, machine clients as ``…@clients``."""

from verifier.presets.preset import Preset

PRESET = Preset(
    title="Auth0",
    defaults={
        "algorithms": ["RS256"],
        "token_types": ["JWT", "at+jwt"],
        "scope_claims": ["scope", "permissions"],
        "client_id_claims": ["azp", "client_id"],
    },
    note="`issuer` ends with a slash. `audiences` takes the API identifier; "
    "a machine client's `sub` is `<client id>@clients`.",
)
