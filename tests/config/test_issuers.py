from typing import Any

import pytest

from verifier.config import IssuerSettings
from verifier.config.issuers import core_issuer
from verifier.core.issuer import Issuer, RequiredClaim

BASE: dict[str, Any] = {"name": "main", "issuer": "https://issuer.example/", "audiences": ["api"]}


def made(**changes: Any) -> Issuer:
    return core_issuer(IssuerSettings.model_validate({**BASE, **changes}))


def test_settings_become_the_issuer_of_the_decision() -> None:
    issuer = made(client_ids=["web"], max_age="12h", scope_claims=["scope", "/realm_access/roles"])
    assert issuer.identifiers == frozenset({BASE["issuer"]})
    assert (issuer.audiences, issuer.client_ids) == (frozenset({"api"}), frozenset({"web"}))
    assert (issuer.max_age, issuer.scope_claims) == (43_200.0, (("scope",), ("realm_access", "roles")))


def test_any_audience_is_none_and_only_that() -> None:
    assert made(audiences="any").audiences is None
    assert made(audiences=["any"]).audiences == frozenset({"any"})


def test_token_types_are_compared_as_media_types() -> None:
    assert made(token_types=["application/AT+JWT"]).token_types == {"at+jwt"}


def test_required_claims_are_one_value_or_several() -> None:
    assert made(required_claims={"a": "x", "/b/c": [1, True]}).required_claims == (
        RequiredClaim(("a",), ("x",)),
        RequiredClaim(("b", "c"), (1, True)),
    )


def test_tenants_are_put_into_every_template() -> None:
    issuer = made(
        issuer="https://login.example/{tenantid}/v2.0",
        issuer_aliases=["https://sts.example/{tenantid}/"],
        tenants=["a", "b"],
    )
    assert issuer.identifiers == {
        "https://login.example/a/v2.0",
        "https://login.example/b/v2.0",
        "https://sts.example/a/",
        "https://sts.example/b/",
    }


@pytest.mark.parametrize(
    "change",
    [{"audiences": ["other"]}, {"leeway": "1s"}, {"algorithms": ["RS256"]}, {"jwks_uri": "https://issuer.example/j"}],
)
def test_any_change_of_an_issuer_changes_its_fingerprint(change: dict[str, Any]) -> None:
    assert made().fingerprint == made().fingerprint
    assert made(**change).fingerprint != made().fingerprint
