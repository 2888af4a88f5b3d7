"""The engine with real keys, a real cache and sources that the test holds in its hand."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.engine_bench import Answering, Bench, Source, key_set, reason, token
from tests.support import AUD, ISS, NOW, claims, issuer, private_key, sign
from verifier.core import keys
from verifier.core.issuer import Introspect, Introspection
from verifier.core.keys import KeySet
from verifier.core.policy import Requirement
from verifier.core.reasons import Reason
from verifier.core.revocation import Kind, Revocation, Revocations
from verifier.core.routes import Target
from verifier.core.verdict import Allowed, Denied
from verifier.engine import Engine, Question
from verifier.ports import SourceUnavailable
from verifier.store.memory import MemoryCache


def test_a_good_token_is_allowed_without_waiting() -> None:
    verdict = Bench().ask(token())
    assert isinstance(verdict, Allowed)
    assert verdict.principal is not None
    assert verdict.principal.subject == "alice"


def test_a_token_is_read_from_the_header() -> None:
    assert isinstance(Bench().engine.decide_now(Question((f"Bearer {token()}",))), Allowed)


def test_a_token_in_the_body_and_a_header_are_two_credentials() -> None:
    verdict = Bench().engine.decide_now(Question((f"Bearer {token()}",), token()))
    assert reason(verdict) is Reason.MULTIPLE_CREDENTIALS


def test_no_credentials_are_a_missing_token() -> None:
    assert reason(Bench().engine.decide_now(Question())) is Reason.MISSING_TOKEN


def test_a_token_beyond_the_limit_is_not_looked_at() -> None:
    assert reason(Bench().ask("a" * 5000)) is Reason.TOKEN_TOO_LARGE


def test_a_denial_names_the_issuer_once_it_is_known() -> None:
    verdict = Bench().ask(token(exp=NOW - 100))
    assert isinstance(verdict, Denied)
    assert (verdict.reason, verdict.issuer) == (Reason.EXPIRED, "main")


def test_nothing_of_a_claim_is_spoken_of_before_the_signature_holds() -> None:
    forged = sign(claims(exp=1, aud="other"), private_key("EdDSA", which=1), "EdDSA")
    assert reason(Bench().ask(forged)) is Reason.BAD_SIGNATURE


def test_the_second_look_at_a_token_is_a_hit() -> None:
    bench = Bench()
    text = token()
    assert bench.ask(text) == bench.ask(text)
    assert bench.seen.hits == [False, True]


class UnaskedKeys(KeySet):
    def choose(self, algorithm: str, kid: str | None, iss: str) -> keys.Key:
        raise AssertionError("a hit needs no key")


def test_a_hit_costs_no_signature() -> None:
    bench = Bench()
    text = token()
    bench.ask(text)
    bench.source.keys = UnaskedKeys(key_set().keys)
    assert isinstance(bench.ask(text), Allowed)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda bench: setattr(bench, "now", NOW + 400), Reason.EXPIRED),
        (lambda bench: setattr(bench.source, "keys", key_set("EdDSA", which=1)), Reason.BAD_SIGNATURE),
        (lambda bench: setattr(bench.source, "keys", keys.load_jwks({"keys": []})), Reason.UNKNOWN_KEY),
        (lambda bench: setattr(bench.source, "keys", key_set(alg="Ed25519")), Reason.UNKNOWN_KEY),
        (lambda bench: setattr(bench.source, "keys", None), Reason.KEYS_UNAVAILABLE),
        (
            lambda bench: setattr(bench, "issuers", (issuer(audiences=frozenset({"x"}), fingerprint="2"),)),
            Reason.WRONG_AUDIENCE,
        ),
        (
            lambda bench: setattr(bench, "issuers", (issuer(identifiers=frozenset({"x"}), name="x"),)),
            Reason.UNTRUSTED_ISSUER,
        ),
    ],
    ids=["time", "key replaced", "key removed", "key narrowed", "keys too old", "configuration", "issuer removed"],
)
def test_a_cached_identity_does_not_outlive_what_it_rests_on(change: Callable[[Bench], None], expected: Reason) -> None:
    bench = Bench()
    text = token()
    assert isinstance(bench.ask(text), Allowed)
    change(bench)
    assert reason(bench.ask(text)) is expected


def test_demands_of_the_request_are_asked_on_every_hit() -> None:
    bench = Bench()
    text = token()
    assert isinstance(bench.ask(text, scopes=("read",)), Allowed)
    assert reason(bench.ask(text, scopes=("admin",))) is Reason.INSUFFICIENT_SCOPE
    assert reason(bench.ask(text, audiences=("x",))) is Reason.WRONG_AUDIENCE
    assert isinstance(bench.ask(text, audiences=(AUD,)), Allowed)


def test_a_denial_for_lack_of_scope_names_the_scopes_demanded() -> None:
    verdict = Bench().ask(token(), scopes=("admin",))
    assert isinstance(verdict, Denied)
    assert verdict.scopes == ("admin",)


def test_a_bad_signature_costs_its_arithmetic_once() -> None:
    bench = Bench()
    forged = sign(claims(), private_key("EdDSA", which=1), "EdDSA")
    assert reason(bench.ask(forged)) is reason(bench.ask(forged)) is Reason.BAD_SIGNATURE
    assert bench.seen.hits == [False, True]


def test_a_token_that_becomes_valid_is_allowed_although_it_was_cached_as_refused() -> None:
    bench = Bench()
    text = token(nbf=NOW + 100)
    assert reason(bench.ask(text)) is Reason.NOT_YET_VALID
    bench.now = NOW + 100
    assert isinstance(bench.ask(text), Allowed)


def test_bad_tokens_push_out_no_good_ones() -> None:
    bench = Bench()
    good = token()
    bench.ask(good)
    for number in range(200):
        bench.ask(sign(claims(jti=str(number)), private_key("EdDSA", which=1), "EdDSA"))
        bench.ask(token(jti=str(number), exp=NOW - 100))
    bench.ask(good)
    assert bench.seen.hits[-1]


def test_an_unknown_key_asks_for_io_only_while_a_refresh_is_permitted() -> None:
    bench = Bench()
    unknown = sign(claims(), algorithm="EdDSA", kid="other")
    assert reason(bench.ask(unknown)) is Reason.UNKNOWN_KEY
    bench.source.upcoming = [key_set()]
    assert bench.ask(unknown) is None


async def test_a_new_key_is_found_by_one_refresh() -> None:
    bench = Bench(source=Source(key_set("RS256"), upcoming=[key_set("EdDSA")]))
    verdict = await bench.engine.decide(Question(token=token()))
    assert isinstance(verdict, Allowed)
    assert bench.source.refreshes == 1


async def test_a_key_that_a_refresh_does_not_bring_is_unknown() -> None:
    bench = Bench(source=Source(upcoming=[key_set(), key_set()]))
    unknown = sign(claims(), algorithm="EdDSA", kid="other")
    assert reason(await bench.engine.decide(Question(token=unknown))) is Reason.UNKNOWN_KEY
    assert bench.source.refreshes == 1


async def test_an_unknown_key_during_an_outage_of_overdue_keys_is_undecided() -> None:
    outage = SourceUnavailable("down", 7.0)
    bench = Bench(source=Source(outage=outage, upcoming=[outage]))
    verdict = await bench.engine.decide(Question(token=sign(claims(), algorithm="EdDSA", kid="other")))
    assert isinstance(verdict, Denied)
    assert (verdict.reason, verdict.retry_after) == (Reason.KEYS_UNAVAILABLE, 7)


def test_known_keys_go_on_serving_during_an_outage() -> None:
    assert isinstance(Bench(source=Source(outage=SourceUnavailable("down"))).ask(token()), Allowed)


async def test_no_keys_at_all_are_undecided_and_never_a_denial() -> None:
    bench = Bench(source=Source(None))
    verdict = await bench.engine.decide(Question(token=token()))
    assert isinstance(verdict, Denied)
    assert verdict.undecided


async def test_the_first_request_waits_for_the_first_fetch() -> None:
    bench = Bench(source=Source(None, upcoming=[key_set()]))
    assert isinstance(await bench.engine.decide(Question(token=token())), Allowed)


async def test_an_unexpected_error_of_a_source_is_undecided_and_reported() -> None:
    bench = Bench(source=Source(None, upcoming=[RuntimeError("bug")]))
    assert reason(await bench.engine.decide(Question(token=token()))) is Reason.KEYS_UNAVAILABLE
    assert [type(error) for error in bench.seen.defects] == [RuntimeError]


async def test_more_waiting_decisions_than_permitted_are_overloaded() -> None:
    bench = Bench(source=Source(None, upcoming=[key_set()] * 5), waiting=2)
    engine = bench.engine
    verdicts = await asyncio.gather(*(engine.decide(Question(token=token(jti=str(n)))) for n in range(5)))
    assert [reason(verdict) for verdict in verdicts].count(Reason.OVERLOADED) == 3


async def test_an_issuer_that_is_slow_takes_no_room_from_another() -> None:
    other = issuer(name="other", identifiers=frozenset({"https://other.example"}))
    slow, quick = Source(None, upcoming=[key_set()] * 9), Source(None, upcoming=[key_set()])
    engine = replace(Bench(), issuers=(issuer(), other), waiting=1).engine_with({"main": slow, "other": quick})
    filling = [asyncio.create_task(engine.decide(Question(token=token(jti=str(n))))) for n in range(3)]
    await asyncio.sleep(0)
    assert isinstance(await engine.decide(Question(token=token(iss="https://other.example"))), Allowed)
    await asyncio.gather(*filling)


def test_a_text_that_differs_only_in_what_cannot_be_encoded_is_another_token() -> None:
    bench = Bench()
    text = token()
    assert isinstance(bench.ask(text), Allowed)
    assert reason(bench.ask(text + "\ud800")) is Reason.MALFORMED_TOKEN


async def test_a_decision_that_needs_no_io_is_never_overloaded() -> None:
    assert isinstance(await Bench(waiting=0).engine.decide(Question(token=token())), Allowed)


async def test_a_waiter_that_gives_up_leaves_its_place() -> None:
    bench = Bench(source=Source(None, upcoming=[key_set()] * 3), waiting=1)
    engine = bench.engine
    task = asyncio.create_task(engine.decide(Question(token=token())))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(await engine.decide(Question(token=token())), Allowed)


class BrokenCache(MemoryCache):
    def get(self, digest: bytes) -> Any:
        raise ZeroDivisionError


async def test_a_defect_denies_and_is_reported() -> None:
    bench = Bench(cache=BrokenCache(10, 1.0, lambda: 0.0))
    assert reason(bench.ask(token())) is Reason.MALFORMED_TOKEN
    assert reason(await bench.engine.decide(Question(token=token()))) is Reason.MALFORMED_TOKEN
    assert {type(error) for error in bench.seen.defects} == {ZeroDivisionError}


def test_the_same_kid_in_two_issuers_never_crosses() -> None:
    other = issuer(name="other", identifiers=frozenset({"https://other.example"}))
    sources = {"main": Source(key_set("EdDSA")), "other": Source(key_set("EdDSA", which=1))}
    engine = Bench((issuer(), other)).engine_with(sources)
    crossed = sign(claims(iss="https://other.example"), private_key("EdDSA"), "EdDSA")
    own = sign(claims(iss="https://other.example"), private_key("EdDSA", which=1), "EdDSA")
    assert reason(engine.decide_now(Question(token=crossed))) is Reason.BAD_SIGNATURE
    assert isinstance(engine.decide_now(Question(token=own)), Allowed)


def test_questions_do_not_show_their_token() -> None:
    assert repr(Question(token="secret")) == "Question(…)"


def test_a_source_says_why_it_is_unavailable() -> None:
    assert str(SourceUnavailable("down")) == "down"


@pytest.mark.parametrize(
    ("demands", "seconds"), [({}, 300.0), ({"max_auth_age": 100.0}, 90.0), ({"max_auth_age": 1_000.0}, 300.0)]
)
def test_an_allow_says_how_long_it_is_good_for(demands: dict[str, Any], seconds: float) -> None:
    verdict = Bench().ask(token(auth_time=NOW - 10), **demands)
    assert isinstance(verdict, Allowed)
    assert verdict.good_until == NOW + seconds


def plain(text: str) -> Question:
    return Question((f"Bearer {text}",))


def remembering(bench: Bench, text: str) -> Engine:
    """An engine that allowed ``text`` by itself twice: verified, then found again."""
    engine = bench.engine
    for _ in range(2):
        assert isinstance(engine.decide_now(plain(text)), Allowed)
    return engine


def test_what_is_repeated_is_the_allow_that_was_given() -> None:
    bench, text = Bench(), token()
    engine = remembering(bench, text)
    known = engine.repeat(text.encode())
    assert known is not None
    assert known.allowed == engine.decide_now(plain(text))
    assert bench.seen.hits == [False, True, True, True]


def test_nothing_is_repeated_that_was_not_allowed_by_itself() -> None:
    bench, text = Bench(), token()
    engine = bench.engine
    assert engine.repeat(text.encode()) is None
    for question in (
        Question((f"Bearer {text}",), requirement=Requirement(scopes=("read",))),
        Question((f"Bearer {text}",), target=Target("GET", None, "/")),
        Question((f"Bearer {text}",), wants_reach=True),
    ):
        for _ in range(3):
            assert isinstance(engine.decide_now(question), Allowed)
        assert engine.repeat(text.encode()) is None


def test_a_refused_token_is_not_repeated() -> None:
    engine, text = Bench().engine, token(aud="other")
    for _ in range(3):
        assert isinstance(engine.decide_now(plain(text)), Denied)
    assert engine.repeat(text.encode()) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda bench: setattr(bench, "now", NOW + 300),  # its end, although there is leeway
        lambda bench: setattr(bench, "now", NOW - 1),  # before it was judged
        lambda bench: setattr(bench.source, "keys", key_set(which=1)),
        lambda bench: setattr(bench.source, "keys", None),
        lambda bench: setattr(bench.revoked, "unread", SourceUnavailable("lost")),
        lambda bench: bench.revoked.held.add(Revocation("r", (ISS,), Kind.SUBJECT, "alice", NOW, NOW + 300)),
        lambda bench: setattr(bench.revoked, "held", Revocations()),
        lambda bench: setattr(bench, "cache", MemoryCache(10, 1.0, lambda: 0.0)),
    ],
)
def test_what_an_allow_rests_on_must_be_the_very_same_for_it_to_be_repeated(change: Callable[[Bench], None]) -> None:
    bench, text = Bench(), token()
    engine = remembering(bench, text)
    assert engine.repeat(text.encode()) is not None
    change(bench)
    engine._cache = bench.cache
    assert engine.repeat(text.encode()) is None


def test_after_a_revocation_of_others_an_allow_is_repeated_once_it_was_judged_again() -> None:
    bench, text = Bench(), token()
    engine = remembering(bench, text)
    bench.revoked.held.add(Revocation("r", (ISS,), Kind.SUBJECT, "bob", NOW, NOW + 300))
    assert engine.repeat(text.encode()) is None
    assert isinstance(engine.decide_now(plain(text)), Allowed)
    assert engine.repeat(text.encode()) is not None


def test_without_keys_nothing_is_repeated_whatever_was_remembered() -> None:
    bench, text = Bench(), token()
    engine = remembering(bench, text)
    known = engine.repeat(text.encode())
    assert known is not None
    known.basis = bench.source.keys = None
    assert engine.repeat(text.encode()) is None


async def test_an_opaque_token_is_repeated_until_its_issuer_must_be_asked_again() -> None:
    policy = Introspection(Introspect.OPAQUE, None, ttl=60.0, denial_ttl=1.0)
    answer = {"active": True, **claims()}
    bench = Bench(issuers=(issuer(introspection=policy),), introspectors={"main": Answering(always=answer)})
    engine = bench.engine
    assert isinstance(await engine.decide(plain("opaque")), Allowed)
    assert isinstance(engine.decide_now(plain("opaque")), Allowed)
    assert engine.repeat(b"opaque") is not None
    bench.now += 60
    assert engine.repeat(b"opaque") is None


def test_another_engine_judges_for_itself() -> None:
    bench, text = Bench(), token()
    remembering(bench, text)
    assert bench.engine.repeat(text.encode()) is None


def test_a_defect_in_repeating_is_reported_and_the_question_is_put() -> None:
    bench, text = Bench(), token()
    engine = remembering(bench, text)
    bench.source.current = None  # type: ignore[method-assign, assignment]
    assert engine.repeat(text.encode()) is None
    assert len(bench.seen.defects) == 1


async def test_a_look_up_counts_once_although_a_decision_waits() -> None:
    bench = Bench(source=Source(None, [key_set()]))
    engine = bench.engine
    assert engine.decide_now(plain(token())) is None
    assert bench.seen.hits == []
    assert isinstance(await engine.decide(plain(token())), Allowed)
    assert bench.seen.hits == [False]
