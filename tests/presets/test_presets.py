"""Tokens in their vendors' shapes, through their presets, as the service decides them."""

from typing import Any

import pytest

from tests.engine_bench import OtherReplicas, Revoked, Seen, Source, reason
from tests.support import NOW, private_key, public_jwk, sign
from verifier.config import IssuerSettings
from verifier.config.issuers import core_issuer
from verifier.core import keys
from verifier.core.issuer import Issuers
from verifier.core.reasons import Reason
from verifier.core.verdict import Allowed, Principal, Verdict
from verifier.engine import Engine, Question
from verifier.ports import Limits, Sources
from verifier.presets import presets
from verifier.store.memory import MemoryCache

KEYS = keys.load_jwks({"keys": [public_jwk(private_key("RS256"))]})


def decided(
    settings: dict[str, Any], claims: dict[str, Any], algorithm: str = "RS256", **header: Any
) -> Verdict | None:
    issuer = core_issuer(IssuerSettings.model_validate({"name": "main", **settings}))
    engine = Engine(
        issuers=Issuers([issuer]),
        sources=Sources({"main": Source(KEYS)}, {}, OtherReplicas(), Revoked()),
        cache=MemoryCache(10, 60.0, lambda: 0.0),
        observer=Seen(),
        limits=Limits(),
        clock=lambda: NOW,
    )
    dated = {"exp": NOW + 3600, "iat": NOW, **claims}
    return engine.decide_now(Question(token=sign(dated, algorithm=algorithm, **header)))


def principal(verdict: Verdict | None) -> Principal:
    assert isinstance(verdict, Allowed), verdict
    assert verdict.principal is not None
    return verdict.principal


FUSIONAUTH = {
    "preset": "fusionauth",
    "issuer": "https://local.fusionauth.io",
    "audiences": ["63b73f76-7400-487d-b122-5705b848da80"],
}
FUSIONAUTH_CLAIMS = {
    "aud": "63b73f76-7400-487d-b122-5705b848da80",
    "iss": "https://local.fusionauth.io",
    "sub": "4a9b1f1c-6a5a-4f43-8f05-7e0ad2b0a3f1",
    "jti": "6b6a1f0e-3a8b-4f06-9a3e-0a5b8a3e8a11",
    "authenticationType": "PASSWORD",
    "email": "reader@example.com",
    "email_verified": True,
    "preferred_username": "reader",
    "applicationId": "63b73f76-7400-487d-b122-5705b848da80",
    "roles": [],
    "auth_time": NOW,
    "tid": "d7d09513-a3f5-401c-9685-34ab6c552453",
}


def test_a_fusionauth_login_is_allowed_with_all_its_claims() -> None:
    found = principal(decided(FUSIONAUTH, FUSIONAUTH_CLAIMS))
    assert FUSIONAUTH_CLAIMS.items() <= found.claims.items()
    assert (found.client_id, found.scopes) == (FUSIONAUTH_CLAIMS["applicationId"], ())


def test_roles_of_a_fusionauth_registration_are_scopes() -> None:
    assert principal(decided(FUSIONAUTH, {**FUSIONAUTH_CLAIMS, "roles": ["admin"]})).scopes == ("admin",)


def test_a_fusionauth_application_can_be_demanded() -> None:
    demanding = {**FUSIONAUTH, "required_claims": {"applicationId": "another"}}
    assert reason(decided(demanding, FUSIONAUTH_CLAIMS)) is Reason.CLAIM_NOT_SATISFIED


def test_a_fusionauth_tenant_left_on_hmac_is_told_so() -> None:
    verdict = decided(FUSIONAUTH, FUSIONAUTH_CLAIMS, "HS256")
    assert reason(verdict) is Reason.ALGORITHM_NOT_ALLOWED
    assert "shared secret (HMAC)" in verdict.detail  # type: ignore[union-attr]


AUTH0 = {"preset": "auth0", "issuer": "https://acme.eu.auth0.com/", "audiences": ["https://api.acme.example"]}
AUTH0_CLAIMS = {
    "iss": "https://acme.eu.auth0.com/",
    "sub": "C8npTEMVnBrILsBTI91MOh6dfuZbPVAU@clients",
    "aud": "https://api.acme.example",
    "azp": "C8npTEMVnBrILsBTI91MOh6dfuZbPVAU",
    "gty": "client-credentials",
    "scope": "read:pets write:pets",
}


def test_an_auth0_machine_token_is_allowed() -> None:
    found = principal(decided(AUTH0, AUTH0_CLAIMS))
    assert (found.subject, found.client_id) == (AUTH0_CLAIMS["sub"], AUTH0_CLAIMS["azp"])
    assert found.scopes == ("read:pets", "write:pets")


def test_permissions_of_auth0_are_scopes() -> None:
    claims = {
        **AUTH0_CLAIMS,
        "scope": "openid",
        "permissions": ["read:pets"],
        "aud": ["https://api.acme.example", "https://acme.eu.auth0.com/userinfo"],
    }
    assert principal(decided(AUTH0, claims)).scopes == ("openid", "read:pets")


def test_an_auth0_issuer_without_its_slash_is_untrusted() -> None:
    assert reason(decided(AUTH0, {**AUTH0_CLAIMS, "iss": "https://acme.eu.auth0.com"})) is Reason.UNTRUSTED_ISSUER


COGNITO_ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Example"
COGNITO = {"preset": "cognito", "issuer": COGNITO_ISSUER, "client_ids": ["4example"]}
COGNITO_CLAIMS = {
    "iss": COGNITO_ISSUER,
    "sub": "u",
    "client_id": "4example",
    "token_use": "access",
    "scope": "api/read",
}


def test_a_cognito_access_token_needs_no_audience() -> None:
    assert principal(decided(COGNITO, COGNITO_CLAIMS, typ=None)).client_id == "4example"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client_id": "other"}, Reason.WRONG_CLIENT),
        ({"token_use": "id"}, Reason.CLAIM_NOT_SATISFIED),
        ({"token_use": "id", "aud": "4example"}, Reason.WRONG_AUDIENCE),
    ],
)
def test_other_tokens_of_cognito_are_refused(changes: dict[str, str], expected: Reason) -> None:
    assert reason(decided(COGNITO, {**COGNITO_CLAIMS, **changes}, typ=None)) is expected


def test_a_required_claim_is_added_to_those_of_the_preset() -> None:
    grouped = {**COGNITO, "required_claims": {"cognito:groups": "staff"}}
    assert (
        reason(decided(grouped, {**COGNITO_CLAIMS, "token_use": "id", "cognito:groups": ["staff"]}, typ=None))
        is Reason.CLAIM_NOT_SATISFIED
    )
    assert principal(decided(grouped, {**COGNITO_CLAIMS, "cognito:groups": ["staff"]}, typ=None))


TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
ENTRA = {"preset": "entra", "tenants": [TENANT], "audiences": ["api://app", "app"]}


@pytest.mark.parametrize(
    ("claims", "client"),
    [
        (
            {
                "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0",
                "aud": "app",
                "azp": "c",
                "ver": "2.0",
                "scp": "a b",
            },
            "c",
        ),
        (
            {
                "iss": f"https://sts.windows.net/{TENANT}/",
                "aud": "api://app",
                "appid": "c",
                "ver": "1.0",
                "roles": ["a", "b"],
            },
            "c",
        ),
    ],
)
def test_entra_tokens_of_both_versions_are_allowed(claims: dict[str, Any], client: str) -> None:
    found = principal(decided(ENTRA, {"tid": TENANT, **claims}))
    assert (found.client_id, found.scopes) == (client, ("a", "b"))


def test_a_tenant_of_entra_that_is_not_listed_is_untrusted() -> None:
    iss = "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0"
    assert reason(decided(ENTRA, {"iss": iss, "aud": "app"})) is Reason.UNTRUSTED_ISSUER


OKTA = {"preset": "okta", "issuer": "https://acme.okta.com/oauth2/default", "audiences": ["api://default"]}


def test_an_okta_token_has_its_scopes_in_an_array() -> None:
    claims = {"iss": OKTA["issuer"], "aud": "api://default", "cid": "0oa1", "scp": ["a", "b"], "ver": 1, "sub": "x"}
    found = principal(decided(OKTA, claims, typ=None))
    assert (found.scopes, found.client_id) == (("a", "b"), "0oa1")


@pytest.mark.parametrize("iss", ["https://accounts.google.com", "accounts.google.com"])
def test_google_names_itself_in_two_ways(iss: str) -> None:
    settings = {"preset": "google", "audiences": ["123.apps.googleusercontent.com"]}
    claims = {"iss": iss, "aud": "123.apps.googleusercontent.com", "azp": "123", "sub": "1", "email_verified": True}
    assert principal(decided(settings, claims)).client_id == "123"


KEYCLOAK = {"preset": "keycloak", "issuer": "https://sso.example/realms/acme", "audiences": ["api"]}
KEYCLOAK_CLAIMS = {
    "iss": KEYCLOAK["issuer"],
    "aud": ["api", "account"],
    "sub": "u",
    "typ": "Bearer",
    "azp": "web",
    "scope": "openid email",
    "realm_access": {"roles": ["staff"]},
}


def test_realm_roles_of_keycloak_are_scopes() -> None:
    found = principal(decided(KEYCLOAK, KEYCLOAK_CLAIMS))
    assert (found.scopes, found.client_id) == (("openid", "email", "staff"), "web")


def test_an_id_token_of_keycloak_is_refused() -> None:
    assert reason(decided(KEYCLOAK, {**KEYCLOAK_CLAIMS, "typ": "ID"})) is Reason.CLAIM_NOT_SATISFIED


def test_a_service_account_of_kubernetes_is_allowed() -> None:
    settings = {"preset": "kubernetes", "audiences": ["verifier"]}
    claims = {
        "iss": "https://kubernetes.default.svc.cluster.local",
        "aud": ["verifier"],
        "sub": "system:serviceaccount:shop:cart",
        "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "cart"}},
    }
    assert principal(decided(settings, claims, typ=None)).subject == "system:serviceaccount:shop:cart"


def test_a_service_account_can_be_bound_to_a_namespace() -> None:
    settings = {
        "preset": "kubernetes",
        "audiences": ["verifier"],
        "required_claims": {"/kubernetes.io/namespace": "shop"},
    }
    claims = {
        "iss": "https://kubernetes.default.svc.cluster.local",
        "aud": ["verifier"],
        "sub": "x",
        "kubernetes.io": {"namespace": "other"},
    }
    assert reason(decided(settings, claims, typ=None)) is Reason.CLAIM_NOT_SATISFIED


def test_the_keys_of_kubernetes_are_fetched_as_a_service_account() -> None:
    issuer = IssuerSettings.model_validate({"name": "k", "preset": "kubernetes", "audiences": ["x"]})
    assert (str(issuer.ca_file), str(issuer.bearer_file)) == (
        "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
    )


def test_a_users_own_keys_replace_the_presets() -> None:
    issuer = IssuerSettings.model_validate(
        {"name": "k", "preset": "kubernetes", "audiences": ["x"], "jwks_file": "k.json"}
    )
    assert issuer.jwks_uri is None


def test_the_credentials_of_a_preset_are_not_for_the_users_own_address() -> None:
    settings = {"name": "k", "preset": "kubernetes", "audiences": ["x"], "jwks_uri": "https://elsewhere.example/jwks"}
    issuer = IssuerSettings.model_validate(settings)
    assert (issuer.bearer_file, issuer.ca_file) == (None, None)


def test_a_single_tenant_of_entra_can_be_written_as_its_issuer() -> None:
    own = f"https://login.microsoftonline.com/{TENANT}/v2.0"
    issuer = IssuerSettings.model_validate({"name": "e", "preset": "entra", "issuer": own, "audiences": ["app"]})
    assert (issuer.identifiers(), issuer.discovery_url) == ((own,), None)


def test_what_a_user_requires_of_a_claim_replaces_what_the_preset_requires_of_it() -> None:
    settings = {**COGNITO, "name": "c", "required_claims": {"token_use": "id"}}
    assert IssuerSettings.model_validate(settings).required_claims == {"token_use": ("id",)}


def test_the_presets_are_those_that_are_promised() -> None:
    assert set(presets()) == {"auth0", "cognito", "entra", "fusionauth", "google", "keycloak", "kubernetes", "okta"}


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="there are auth0, cognito"):
        IssuerSettings.model_validate(
            {"name": "x", "preset": "auth1", "issuer": "https://x.example", "audiences": ["x"]}
        )


def test_cognito_without_clients_and_audiences_is_refused() -> None:
    with pytest.raises(ValueError, match="client ids"):
        IssuerSettings.model_validate({"name": "x", "preset": "cognito", "issuer": COGNITO_ISSUER})
