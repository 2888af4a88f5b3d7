"""Kubernetes: tokens of service accounts, with keys that the API server serves to service accounts."""

from verifier.presets.preset import Preset

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

PRESET = Preset(
    title="Kubernetes service accounts",
    defaults={
        "issuer": "https://kubernetes.default.svc.cluster.local",
        "jwks_uri": "https://kubernetes.default.svc/openid/v1/jwks",
        "algorithms": ["RS256", "ES256"],
        "token_types": ["JWT"],
        "scope_claims": ["scope"],
        "client_id_claims": [],
        "ca_file": f"{_ACCOUNT}/ca.crt",
        "bearer_file": f"{_ACCOUNT}/token",
    },
    note="`issuer` is what `kubectl get --raw /.well-known/openid-configuration` shows; `audiences` takes what the "
    "projected token was asked for. `sub` is `system:serviceaccount:<namespace>:<name>`.",
)
