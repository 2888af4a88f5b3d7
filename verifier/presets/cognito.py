"""Amazon Cognito: access tokens without ``aud``, told from ID tokens by ``token_use``."""

from verifier.presets.preset import Preset

PRESET = Preset(
    title="Amazon Cognito",
    defaults={
        "algorithms": ["RS256"],
        "token_types": ["JWT"],
        "scope_claims": ["scope"],
        "client_id_claims": ["client_id"],
        "required_claims": {"token_use": "access"},
    },
    note="Access tokens bear no `aud`: give `client_ids`, and leave `audiences` out unless resource binding is on.",
    audience_free=True,
)
