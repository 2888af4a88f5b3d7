"""FusionAuth: the application in ``aud`` and ``applicationId``, registration shown by ``roles``."""

from verifier.presets.preset import Preset

PRESET = Preset(
    title="FusionAuth",
    defaults={
        "algorithms": ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"],
        "token_types": ["JWT", "at+jwt"],
        "scope_claims": ["scope", "roles"],
        "client_id_claims": ["applicationId"],
    },
    note="`issuer` is the tenant's, exactly; `audiences` takes the application id. Roles count as scopes. "
    "A tenant signs with HMAC until an RSA or EC key is chosen under Tenants, JWT.",
)
