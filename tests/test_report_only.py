"""Rules that are only reported: what they say is what enforcing them would do, and they do nothing."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.engine_bench import Answering, Bench, Source, key_set, reason, token
from tests.support import AUD, NOW, claims, issuer, private_key, sign
from verifier.core import trial
from verifier.core.identity import Identity
from verifier.core.issuer import Introspect, Introspection, Issuer, RequiredClaim
from verifier.core.paths import Form
from verifier.core.policy import Requirement
from verifier.core.reasons import Reason
from verifier.core.routes import Access, Route, Routes, Target, parse
from verifier.core.token import Header
from verifier.core.verdict import Allowed, Denied, Verdict, WouldDeny
from verifier.engine import ANY_ROUTE, Engine, Question

PETS = Target("GET", None, "/pets")
ADMIN = Requirement(scopes=("admin",))
BASICS = "Basic eA=="


def on_trial(pattern: str, name: str = "tried", **changes: Any) -> Route:
    return Route(name, parse(pattern), report_only=True, **changes)


def table(*routes: Route, default: Access = Access.AUTHENTICATED) -> Routes:
    return Routes(routes, default=default)


def asked(routes: Routes, target: Target | None = PETS, text: str | None = None, **question: Any) -> Verdict | None:
    headers = (f"Bearer {token() if text is None else text}",) if text != "" else ()
    return Bench(routes=routes).engine.decide_now(Question(headers, target=target, **question))


def told(verdict: Verdict | None) -> list[tuple[str, Reason, str]]:
    assert isinstance(verdict, Allowed)
    return [(found.rule, found.reason, found.route) for found in verdict.would_deny]


def trying(**changes: Any) -> Issuer:
    return issuer(trial=issuer(**changes))


def judged(at: Issuer, text: str, **changes: Any) -> Verdict | None:
    return Bench(issuers=(at,), source=Source(key_set("EdDSA", "ES256")), **changes).ask(text)


class TestRoutes:
    def test_what_a_route_on_trial_would_deny_is_allowed_and_told(self) -> None:
        verdict = asked(table(on_trial("/pets/**", requirement=ADMIN)))
        detail = "the token lacks a scope that is demanded here"
        assert isinstance(verdict, Allowed)
        assert verdict.would_deny == (
            WouldDeny("route", Reason.INSUFFICIENT_SCOPE, detail, route="tried", pattern="/pets/**"),
        )

    def test_what_it_would_allow_is_told_nothing_about(self) -> None:
        assert told(asked(table(on_trial("/pets", requirement=Requirement(scopes=("read",)))))) == []

    def test_what_is_denied_stays_denied_whatever_a_route_on_trial_would_allow(self) -> None:
        routes = table(on_trial("/**", access=Access.ANONYMOUS), Route("pets", parse("/pets"), access=Access.DENIED))
        assert reason(asked(routes)) is Reason.ROUTE_DENIED
        assert reason(asked(table(on_trial("/**", access=Access.ANONYMOUS)), text="")) is Reason.MISSING_TOKEN
        assert reason(asked(table(on_trial("/**"), default=Access.DENIED))) is Reason.ROUTE_DENIED

    def test_without_a_token_on_an_anonymous_route_one_would_be_missing(self) -> None:
        routes = table(on_trial("/pets"), Route("open", parse("/**"), access=Access.ANONYMOUS))
        assert told(asked(routes, text="")) == [("route", Reason.MISSING_TOKEN, "tried")]
        assert told(asked(routes)) == []

    def test_nobody_is_told_about_where_the_route_on_trial_is_for_everybody(self) -> None:
        routes = table(on_trial("/pets", access=Access.ANONYMOUS), Route("open", parse("/**"), access=Access.ANONYMOUS))
        assert told(asked(routes, text="")) == []

    def test_of_several_on_trial_the_first_that_matches_counts(self) -> None:
        routes = table(
            on_trial("/other", name="other", access=Access.DENIED),
            on_trial("/pets", name="first", requirement=ADMIN),
            on_trial("/pets", name="second", access=Access.DENIED),
        )
        assert told(asked(routes)) == [("route", Reason.INSUFFICIENT_SCOPE, "first")]

    def test_a_route_on_trial_behind_the_one_that_decides_says_nothing(self) -> None:
        assert told(asked(table(Route("pets", parse("/pets")), on_trial("/**", access=Access.DENIED)))) == []

    def test_a_route_on_trial_stands_for_a_change_of_the_default(self) -> None:
        routes = table(Route("pets", parse("/pets")), on_trial("/**", access=Access.DENIED))
        assert told(asked(routes, Target("GET", None, "/x"))) == [("route", Reason.ROUTE_DENIED, "tried")]

    def test_a_token_by_itself_is_no_routes_matter(self) -> None:
        assert told(asked(table(on_trial("/**", access=Access.DENIED)), target=None)) == []

    def test_a_question_about_a_token_alone_may_name_what_is_tried(self) -> None:
        routes = table(on_trial("/pets", access=Access.DENIED))
        assert told(asked(routes, target=None, tried=PETS)) == [("route", Reason.ROUTE_DENIED, "tried")]
        assert told(asked(routes, target=None, tried=Target("GET", None, "//pets"))) == [
            ("route", Reason.ROUTE_DENIED, "")
        ]

    def test_hosts_of_routes_on_trial_make_no_host_mandatory(self) -> None:
        verdict = asked(table(on_trial("/x", hosts=frozenset({"api.example"}))))
        assert told(verdict) == [("route", Reason.ROUTE_DENIED, "")]

    def test_a_route_on_trial_makes_no_spelling_a_refusal(self) -> None:
        verdict = asked(table(on_trial("/pets", access=Access.DENIED)), Target("GET", None, "/Pets"))
        assert told(verdict) == [("route", Reason.ROUTE_DENIED, "")]

    def test_what_else_may_be_done_does_not_depend_on_routes_on_trial(self) -> None:
        enforced = Route("pets", parse("/pets"))
        verdict = asked(table(on_trial("/**", access=Access.DENIED), enforced), wants_reach=True)
        assert isinstance(verdict, Allowed)
        assert verdict.reach == asked(table(enforced), wants_reach=True).reach  # type: ignore[union-attr]

    def test_a_preflight_that_is_let_through_is_tried(self) -> None:
        preflight = Target("OPTIONS", None, "/pets", preflight_of="DELETE")
        denying = on_trial("/pets", methods=frozenset({"DELETE"}), access=Access.DENIED)
        for route, expected in ((denying, [("route", Reason.MISSING_TOKEN, "tried")]), (on_trial("/pets"), [])):
            routes = Routes([route], default=Access.AUTHENTICATED, answers_preflights=True)
            assert told(asked(routes, preflight, text="")) == expected

    def test_the_time_of_a_route_on_trial_has_the_leeway_of_the_issuer(self) -> None:
        routes = table(on_trial("/pets", requirement=Requirement(max_auth_age=60.0)))
        assert told(asked(routes, text=token(auth_time=NOW - 90))) == []
        assert told(asked(routes, text=token(auth_time=NOW - 91))) == [("route", Reason.STALE_AUTHENTICATION, "tried")]


class TestIssuers:
    @pytest.mark.parametrize(
        ("stricter", "expected"),
        [
            ({"audiences": frozenset({"new"})}, Reason.WRONG_AUDIENCE),
            ({"client_ids": frozenset({"web"})}, Reason.WRONG_CLIENT),
            ({"client_ids": frozenset({"web"}), "client_id_claims": ("azp",)}, Reason.MISSING_CLAIM),
            ({"required_claims": (RequiredClaim(("group",), ("staff",)),)}, Reason.CLAIM_NOT_SATISFIED),
            ({"algorithms": frozenset({"ES256"})}, Reason.ALGORITHM_NOT_ALLOWED),
            ({"token_types": frozenset({"at+jwt"})}, Reason.WRONG_TOKEN_TYPE),
            ({"max_age": 10.0}, Reason.TOO_OLD),
            ({"leeway": 0.0}, Reason.NOT_YET_VALID),
        ],
    )
    def test_a_stricter_value_is_told_by_its_reason(self, stricter: dict[str, Any], expected: Reason) -> None:
        text = token(client_id="mobile", iat=NOW - 50, nbf=NOW + 5)
        assert told(judged(trying(**stricter), text)) == [("issuer", expected, "")]

    def test_what_is_refused_is_not_tried(self) -> None:
        assert reason(judged(trying(audiences=frozenset({"other"})), token(aud="other"))) is Reason.WRONG_AUDIENCE

    def test_a_looser_value_allows_nothing(self) -> None:
        loose = trying(audiences=None, leeway=10_000.0, token_types=frozenset({"jwt", "logout+jwt"}))
        for text in (token(aud="other"), token(exp=NOW - 60)):
            assert isinstance(judged(loose, text), Denied)
        logout = sign(claims(), private_key("EdDSA"), "EdDSA", typ="logout+jwt")
        assert reason(judged(loose, logout)) is Reason.WRONG_TOKEN_TYPE

    def test_what_an_issuer_and_a_route_would_deny_is_told_of_each(self) -> None:
        at = trying(audiences=frozenset({"new"}))
        bench = Bench(issuers=(at,), routes=table(on_trial("/**", requirement=ADMIN)))
        verdict = bench.engine.decide_now(Question(token=token(), target=PETS))
        assert told(verdict) == [
            ("issuer", Reason.WRONG_AUDIENCE, ""),
            ("route", Reason.INSUFFICIENT_SCOPE, "tried"),
        ]

    def test_it_is_told_of_each_request_whether_the_identity_is_cached_or_not(self) -> None:
        bench, text = Bench(issuers=(trying(audiences=frozenset({"new"})),)), token()
        engine = bench.engine
        for _ in range(3):
            assert told(engine.decide_now(Question((f"Bearer {text}",)))) == [("issuer", Reason.WRONG_AUDIENCE, "")]
        assert bench.seen.hits == [False, True, True]
        assert engine.repeat(text.encode()) is None

    def test_a_token_that_grows_too_old_is_told_about_from_then_on(self) -> None:
        bench, text = Bench(issuers=(trying(max_age=60.0),)), token()
        engine = bench.engine
        for later, expected in ((0, []), (90, []), (91, [("issuer", Reason.TOO_OLD, "")])):
            bench.now = NOW + later
            assert engine.repeat(text.encode()) is None
            assert told(engine.decide_now(Question((f"Bearer {text}",)))) == expected

    def test_allows_of_other_issuers_are_repeated(self) -> None:
        other = replace(trying(max_age=60.0), name="other", identifiers=frozenset({"https://other.example"}))
        bench, text = Bench(issuers=(issuer(), other)), token()
        engine = bench.engine
        for _ in range(2):
            engine.decide_now(Question((f"Bearer {text}",)))
        assert engine.repeat(text.encode()) is not None

    def test_an_allow_says_how_long_it_is_good_for_as_if_nothing_was_on_trial(self) -> None:
        verdict = judged(trying(max_age=60.0), token())
        assert isinstance(verdict, Allowed)
        assert verdict.good_until == NOW + 300

    def test_another_trial_is_told_by_what_is_cached_already(self) -> None:
        bench, text = Bench(issuers=(trying(audiences=frozenset({"new"})),)), token()
        bench.ask(text)
        bench.issuers = (trying(algorithms=frozenset({"ES256"})),)
        assert told(bench.ask(text)) == [("issuer", Reason.ALGORITHM_NOT_ALLOWED, "")]
        bench.issuers = (issuer(),)
        assert told(bench.ask(text)) == []
        assert bench.seen.hits == [False, True, True]

    async def test_what_another_replica_verified_is_tried_here(self) -> None:
        one, text = Bench(shared_algorithms=frozenset({"EdDSA"})), token()
        await one.engine.decide(Question(token=text))
        for stricter, expected in (
            ({"token_types": frozenset({"at+jwt"})}, Reason.WRONG_TOKEN_TYPE),
            ({"audiences": frozenset({"new"})}, Reason.WRONG_AUDIENCE),
        ):
            other = Bench((trying(**stricter),), others=one.others, shared_algorithms=one.shared_algorithms)
            assert told(await other.engine.decide(Question(token=text))) == [("issuer", expected, "")]
            assert other.seen.shared_hits == [True]

    @pytest.mark.parametrize(
        ("stricter", "expected"),
        [
            ({"audiences": frozenset({"new"})}, [("issuer", Reason.WRONG_AUDIENCE, "")]),
            ({"token_types": frozenset({"at+jwt"})}, [("issuer", Reason.WRONG_TOKEN_TYPE, "")]),
            ({"algorithms": frozenset({"ES256"})}, []),  # of which an opaque token has none
        ],
    )
    async def test_an_opaque_token_is_tried_by_what_its_issuer_said(
        self, stricter: dict[str, Any], expected: list[Any]
    ) -> None:
        asking = issuer(introspection=Introspection(Introspect.OPAQUE, None, ttl=60.0, denial_ttl=1.0))
        at = replace(asking, trial=replace(asking, **stricter))
        answer = {"active": True, **claims(), "typ": "JWT"}
        bench = Bench(issuers=(at,), introspectors={"main": Answering(always=answer)})
        assert told(await bench.engine.decide(Question(token="opaque"))) == expected
        assert told(bench.ask("opaque")) == expected

    async def test_a_token_that_is_signed_and_asked_about_is_tried_by_its_header(self) -> None:
        asking = issuer(introspection=Introspection(Introspect.ALWAYS, None, ttl=60.0, denial_ttl=1.0))
        at = replace(asking, trial=replace(asking, token_types=frozenset({"at+jwt"})))
        bench = Bench(issuers=(at,), introspectors={"main": Answering(always={"active": True, **claims()})})
        verdict = await bench.engine.decide(Question(token=token()))
        assert told(verdict) == [("issuer", Reason.WRONG_TOKEN_TYPE, "")]


def test_a_defect_of_a_trial_is_reported_and_the_decision_stands() -> None:
    bench, text = Bench(issuers=(trying(audiences=frozenset({"new"})),)), token()
    bench.issuers = (replace(bench.issuers[0], trial=Broken()),)  # type: ignore[arg-type]
    verdict = bench.ask(text)
    assert isinstance(verdict, Allowed)
    assert verdict.would_deny == ()
    assert [type(error) for error in bench.seen.defects] == [AttributeError]


class Broken:
    """No issuer at all."""


def test_nothing_is_said_of_an_identity_that_was_refused() -> None:
    refused = Identity("main", "one", None, b"", Denied(Reason.INACTIVE, "no"), header=Header("none", None, None))
    assert trial.would_deny(refused, trying(audiences=frozenset()), ANY_ROUTE, None, NOW) == ()


def _route(chance: random.Random, number: int) -> Route:
    pattern = "/" + "/".join(chance.choices(["a", "b", "A", "*"], k=chance.randint(0, 2)) + chance.choice([[], ["**"]]))
    return Route(
        name=str(number),
        pattern=parse(pattern),
        methods=frozenset(chance.sample(["GET", "POST"], chance.choice([0, 0, 1]))),
        hosts=frozenset(chance.choices([(), (), (), ("x",), ("*.x",)])[0]),
        access=chance.choice([Access.AUTHENTICATED, Access.AUTHENTICATED, Access.ANONYMOUS, Access.DENIED]),
        requirement=Requirement(
            scopes=tuple(chance.sample(["read", "admin"], chance.choice([0, 1]))),
            audiences=chance.choice([(), (), (AUD,), ("new",)]),
            max_auth_age=chance.choice([None, None, 20.0]),
        ),
        condition=chance.choice(["", "", "", '{"Bool":{}}']),
        report_only=chance.random() < 0.5,
    )


def _question(chance: random.Random, texts: list[str]) -> Question:
    path = "/" + "/".join(chance.choices(["a", "b", "A", "c", "", ".."], [6, 6, 3, 3, 1, 1], k=chance.randint(0, 3)))
    target = Target(
        chance.choice(["GET", "HEAD", "POST", "get"]),
        chance.choice([None, "x", "y.x", "z"]),
        path,
        preflight_of=chance.choice([None, None, None, "POST"]),
        holds_conditions=chance.random() < 0.3,
    )
    headers = chance.choice([(), (BASICS,), *((f"Bearer {text}",) for text in texts)])
    wanted = chance.choice([Requirement(), Requirement(scopes=("read",))])
    return Question(headers, requirement=wanted, target=target, wants_reach=chance.random() < 0.5)


def _without_trial(verdict: Verdict | None) -> Verdict | None:
    return verdict._replace(would_deny=()) if isinstance(verdict, Allowed) else verdict


def test_routes_on_trial_change_nothing_and_say_what_enforcing_them_would_do() -> None:
    chance = random.Random(20_261_122)
    texts = [token(auth_time=NOW - 20), token(scope="admin"), token(aud=[AUD, "new"]), token(exp=NOW - 100)]
    seen = {True: 0, False: 0}
    for _ in range(400):
        routes = [_route(chance, number) for number in range(chance.randint(1, 6))]
        default = chance.choice([*Access])
        preflights, forms = chance.random() < 0.5, frozenset(chance.sample([*Form], chance.choice([0, 0, 6])))
        made = partial(Routes, default=default, permitted=forms, answers_preflights=preflights)

        def engine(*routes: Route, made: Callable[..., Routes] = made) -> Engine:
            return Bench(routes=made(routes)).engine

        tried = engine(*routes)
        without = engine(*(one for one in routes if not one.report_only))
        enforced = engine(*(replace(one, report_only=False) for one in routes))
        for _ in range(8):
            question = _question(chance, texts)
            verdict, strict = tried.decide_now(question), enforced.decide_now(question)
            assert _without_trial(verdict) == without.decide_now(question)
            if isinstance(verdict, Allowed):
                expected = [(strict.reason, strict.detail)] if isinstance(strict, Denied) else []
                assert [(found.reason, found.detail) for found in verdict.would_deny] == expected
                seen[bool(expected)] += 1
    assert min(seen.values()) > 100, seen


def _stricter(chance: random.Random) -> dict[str, Any]:
    choices: dict[str, list[Any]] = {
        "audiences": [frozenset({AUD}), frozenset({"new"}), frozenset({AUD, "new"})],
        "client_ids": [frozenset({"web"}), frozenset({"web", "mobile"})],
        "algorithms": [frozenset({"ES256"}), frozenset({"EdDSA"})],
        "token_types": [frozenset({"at+jwt"}), frozenset({"jwt"})],
        "required_claims": [(RequiredClaim(("group",), ("staff",)),)],
        "leeway": [0.0, 10.0],
        "max_age": [10.0, 100.0],
    }
    return {name: chance.choice(choices[name]) for name in chance.sample(sorted(choices), chance.randint(1, 3))}


def _any_token(chance: random.Random) -> str:
    algorithm = chance.choice(["EdDSA", "ES256"])
    made = claims(
        aud=chance.choice([AUD, "new", [AUD, "new"], None]),
        client_id=chance.choice([None, "web", "other"]),
        azp=chance.choice([None, None, "mobile"]),
        group=chance.choice([None, "staff", "guest"]),
        iat=chance.choice([None, NOW, NOW - 50, NOW + 20]),
        exp=NOW + chance.choice([-20, -5, 300]),
    )
    return sign(made, private_key(algorithm), algorithm, typ=chance.choice([None, "JWT", "at+jwt"]))


def test_values_on_trial_change_nothing_and_say_what_enforcing_them_would_do() -> None:
    chance = random.Random(20_261_123)
    seen = {True: 0, False: 0}
    for _ in range(600):
        own = issuer(client_ids=chance.choice([frozenset(), frozenset({"web", "mobile", "other"})]))
        strict = replace(own, **_stricter(chance))
        text = _any_token(chance)
        verdict, enforced = judged(replace(own, trial=strict), text), judged(strict, text)
        assert _without_trial(verdict) == judged(own, text)
        if isinstance(verdict, Allowed):
            expected = [(enforced.reason, enforced.detail)] if isinstance(enforced, Denied) else []
            assert [(found.reason, found.detail) for found in verdict.would_deny] == expected
            seen[bool(expected)] += 1
    assert min(seen.values()) > 50, seen
