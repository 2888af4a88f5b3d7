"""Microsoft Entra ID: one key set for many tenants, tokens of version 1 and 2, application roles."""

from verifier.presets.preset import Preset

PRESET = Preset(
    title="Microsoft Entra ID",
    defaults={
        "issuer": "https://login.microsoftonline.com/{tenantid}/v2.0",
        "issuer_aliases": ["https://sts.windows.net/{tenantid}/"],
        "discovery_url": "https://login.microsoftonline.com/organizations/v2.0",
        "algorithms": ["RS256"],
        "token_types": ["JWT"],
        "scope_claims": ["scp", "roles"],
        "client_id_claims": ["azp", "appid"],
    },
    note="Give `tenants`; tokens of version 1 (`sts.windows.net`, `appid`) and 2 (`azp`) of these tenants are "
    "accepted. `audiences` takes the application id and, for version 1, `api://<application id>`.",
)
