"""Google: identity tokens of users and service accounts, with or without the scheme in ``iss``."""

from verifier.presets.preset import Preset

PRESET = Preset(
    title="Google",
    defaults={
        "issuer": "https://accounts.google.com",
        "issuer_aliases": ["accounts.google.com"],
        "algorithms": ["RS256"],
        "token_types": ["JWT"],
        "scope_claims": ["scope"],
        "client_id_claims": ["azp"],
    },
    note="Identity tokens: `audiences` takes your client id, or the URL that a service account asked its token for. "
    "`required_claims: {hd: acme.example}` admits one Workspace domain.",
)
