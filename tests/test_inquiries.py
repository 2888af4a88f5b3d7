"""What the engine asks issuers and other replicas about a token."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.engine_bench import Answering, Bench, OtherReplicas, Source, key_set, reason, token
from tests.support import ISS, NOW, claims, issuer, private_key, sign
from verifier.core.issuer import Introspect, Introspection, Issuer
from verifier.core.reasons import Reason
from verifier.core.revocation import Kind, Revocation
from verifier.core.verdict import Allowed, Denied, Verdict
from verifier.engine import Question
from verifier.ports import NoAnswer, NotAsked, SourceUnavailable

ASKED = Introspection(Introspect.OPAQUE, token_prefix=None, ttl=60.0, denial_ttl=10.0)


def asked_issuer(name: str = "main", **changes: Any) -> Issuer:
    """An issuer that is asked about opaque tokens; ``changes`` are to how it is asked."""
    iss = ISS if name == "main" else f"https://{name}.example"
    return issuer(name=name, identifiers=frozenset({iss}), introspection=replace(ASKED, **changes))


ALWAYS = asked_issuer(tokens=Introspect.ALWAYS)


def active(**changes: Any) -> dict[str, Any]:
    return {"active": True, **claims(**changes)}


def bench_of(*issuers: Issuer, **answers: Any) -> Bench:
    """A bench whose issuer ``main`` calls the tokens ``answers`` what they say."""
    return Bench(issuers=issuers or (asked_issuer(),), introspectors={"main": Answering(answers)})


async def decide(bench: Bench, text: str) -> Verdict:
    return await bench.engine.decide(Question(token=text))


async def test_an_opaque_token_is_what_its_issuer_says() -> None:
    verdict = await decide(bench_of(abc=active(sub="bob", scope="read")), "abc")
    assert isinstance(verdict, Allowed)
    assert verdict.principal is not None
    assert (verdict.principal.subject, verdict.principal.scopes) == ("bob", ("read",))


async def test_an_opaque_token_takes_io() -> None:
    assert bench_of(abc=active()).ask("abc") is None


async def test_an_opaque_token_that_the_issuer_does_not_know_is_inactive() -> None:
    assert reason(await decide(bench_of(), "abc")) is Reason.INACTIVE


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"aud": "another"}, Reason.WRONG_AUDIENCE),
        ({"iss": "https://another.example"}, Reason.UNTRUSTED_ISSUER),
        ({"exp": None}, Reason.MISSING_CLAIM),
        ({"exp": NOW - 100}, Reason.EXPIRED),
        ({"nbf": NOW + 100}, Reason.NOT_YET_VALID),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
async def test_an_answer_is_checked_like_a_token(changes: dict[str, Any], expected: Reason) -> None:
    assert reason(await decide(bench_of(abc=active(**changes)), "abc")) is expected


async def test_an_answer_is_asked_for_once_while_it_counts() -> None:
    bench = bench_of(abc=active())
    for _ in range(3):
        assert isinstance(await decide(bench, "abc"), Allowed)
    assert bench.introspectors["main"].asked == ["abc"]


async def test_an_answer_is_asked_for_again_when_its_time_is_over() -> None:
    bench = bench_of(abc=active(exp=NOW + 3_600))
    await decide(bench, "abc")
    bench.now += ASKED.ttl
    bench.others.entries.clear()
    await decide(bench, "abc")
    assert len(bench.introspectors["main"].asked) == 2


async def test_a_token_that_was_withdrawn_is_refused_when_the_answer_is_over() -> None:
    bench = bench_of(abc=active(exp=NOW + 3_600))
    assert isinstance(await decide(bench, "abc"), Allowed)
    bench.introspectors["main"].answers.clear()
    bench.now += ASKED.ttl
    bench.others.entries.clear()
    assert reason(await decide(bench, "abc")) is Reason.INACTIVE


async def test_a_denial_counts_for_its_shorter_time() -> None:
    bench = bench_of()
    await decide(bench, "abc")
    bench.introspectors["main"].answers["abc"] = active()
    bench.now += ASKED.denial_ttl
    bench.others.entries.clear()
    assert isinstance(await decide(bench, "abc"), Allowed)


async def test_many_who_wait_for_one_token_ask_once() -> None:
    bench = bench_of(abc=active())
    engine = bench.engine
    verdicts = await asyncio.gather(*(engine.decide(Question(token="abc")) for _ in range(5)))
    assert all(isinstance(verdict, Allowed) for verdict in verdicts)
    assert bench.introspectors["main"].asked == ["abc"]


async def test_one_who_gives_up_does_not_end_it_for_the_others() -> None:
    bench = bench_of(abc=active())
    bench.introspectors["main"].gate.clear()
    engine = bench.engine
    one, other = (asyncio.create_task(engine.decide(Question(token="abc"))) for _ in range(2))
    await asyncio.sleep(0.01)
    one.cancel()
    bench.introspectors["main"].gate.set()
    assert isinstance(await other, Allowed)


async def test_an_outage_is_undecided_and_not_remembered() -> None:
    bench = bench_of(abc=SourceUnavailable("down", 7.0))
    verdict = await decide(bench, "abc")
    assert isinstance(verdict, Denied)
    assert (verdict.reason, verdict.retry_after) == (Reason.INTROSPECTION_UNAVAILABLE, 7)
    bench.introspectors["main"].answers["abc"] = active()
    assert isinstance(await decide(bench, "abc"), Allowed)


async def test_an_outage_lets_another_replica_try() -> None:
    bench = bench_of(abc=SourceUnavailable("down"))
    await decide(bench, "abc")
    assert bench.others.released == bench.others.claimed != []
    assert bench.others.entries == {}


@pytest.mark.parametrize(
    ("outage", "result", "told"),
    [(SourceUnavailable("down"), "error", ["down"]), (NotAsked("not again so soon"), "not_asked", [])],
)
async def test_an_outage_is_told_once_and_not_while_nobody_asks(
    outage: SourceUnavailable, result: str, told: list[str]
) -> None:
    bench = bench_of(abc=outage)
    await decide(bench, "abc")
    assert (bench.seen.introspections, bench.seen.outages) == ([("main", result)], told)


async def test_a_token_that_the_issuer_cannot_tell_about_is_inactive_and_asked_about_again() -> None:
    bench = bench_of(abc=NoAnswer())
    assert [reason(await decide(bench, "abc")) for _ in range(2)] == [Reason.INACTIVE] * 2
    assert bench.introspectors["main"].asked == ["abc", "abc"]
    assert bench.others.entries == {}


async def test_issuers_are_asked_in_their_order_until_one_knows_the_token() -> None:
    bench = bench_of(asked_issuer(), asked_issuer("second"), asked_issuer("third"))
    bench.introspectors |= {
        "second": Answering({"abc": active(iss="https://second.example")}),
        "third": Answering(always=active(iss="https://third.example")),
    }
    verdict = await decide(bench, "abc")
    assert isinstance(verdict, Allowed)
    assert verdict.principal is not None
    assert verdict.principal.issuer_name == "second"
    assert bench.introspectors["third"].asked == []


async def test_an_issuer_that_cannot_be_asked_is_not_one_that_says_no() -> None:
    bench = bench_of(asked_issuer(), asked_issuer("second"), abc=SourceUnavailable("down"))
    bench.introspectors["second"] = Answering()
    assert reason(await decide(bench, "abc")) is Reason.INTROSPECTION_UNAVAILABLE


async def test_an_issuer_that_cannot_be_asked_keeps_no_other_from_knowing_the_token() -> None:
    bench = bench_of(asked_issuer(), asked_issuer("second"), abc=SourceUnavailable("down"))
    bench.introspectors["second"] = Answering({"abc": active(iss="https://second.example")})
    assert isinstance(await decide(bench, "abc"), Allowed)


async def test_a_refusal_by_the_issuer_that_knows_the_token_is_final() -> None:
    bench = bench_of(asked_issuer(), asked_issuer("second"), abc=active(aud="another"))
    bench.introspectors["second"] = Answering({"abc": active(iss="https://second.example")})
    assert reason(await decide(bench, "abc")) is Reason.WRONG_AUDIENCE


async def test_a_prefix_says_whose_an_opaque_token_is() -> None:
    prefixed = asked_issuer("second", token_prefix="sec_")
    bench = bench_of(asked_issuer(), prefixed)
    bench.introspectors["second"] = Answering({"sec_abc": active(iss="https://second.example")})
    assert isinstance(await decide(bench, "sec_abc"), Allowed)
    assert bench.introspectors["main"].asked == []


async def test_an_opaque_token_that_nobody_can_be_asked_about_is_malformed() -> None:
    assert reason(await decide(Bench(), "abc")) is Reason.MALFORMED_TOKEN


async def test_a_jwt_is_not_asked_about_where_its_signature_is_enough() -> None:
    bench = bench_of()
    assert isinstance(await decide(bench, token()), Allowed)
    assert bench.introspectors["main"].asked == []


async def test_a_jwt_that_must_be_asked_about_is_allowed_when_signature_and_issuer_agree() -> None:
    text = token(sub="alice")
    bench = bench_of(ALWAYS, **{text: {"active": True, "sub": "alice"}})
    assert isinstance(await decide(bench, text), Allowed)


async def test_a_jwt_that_must_be_asked_about_is_refused_when_the_issuer_says_so() -> None:
    assert reason(await decide(bench_of(ALWAYS), token())) is Reason.INACTIVE


async def test_a_jwt_that_must_be_asked_about_is_not_shown_to_the_issuer_when_its_signature_is_bad() -> None:
    forged = sign(claims(), private_key("EdDSA", which=1), "EdDSA")
    bench = bench_of(ALWAYS, **{forged: active()})
    assert reason(await decide(bench, forged)) is Reason.BAD_SIGNATURE
    assert bench.introspectors["main"].asked == []


async def test_an_answer_about_another_token_is_none_about_this_one() -> None:
    text = token(sub="alice")
    bench = bench_of(ALWAYS, **{text: active(sub="bob")})
    assert reason(await decide(bench, text)) is Reason.INACTIVE


async def test_an_answer_about_a_jwt_does_not_outlive_its_key() -> None:
    text = token()
    bench = bench_of(ALWAYS, **{text: {"active": True}})
    assert isinstance(await decide(bench, text), Allowed)
    bench.source.keys = key_set("EdDSA", which=1)
    assert reason(await decide(bench, text)) is Reason.BAD_SIGNATURE


async def test_a_jwt_of_an_issuer_without_keys_is_what_the_issuer_says() -> None:
    text = token()
    only = asked_issuer(tokens=Introspect.ONLY)
    bench = Bench((only,), introspectors={"main": Answering({text: active()})})
    engine = bench.engine_with({})
    assert isinstance(await engine.decide(Question(token=text)), Allowed)
    assert isinstance(engine.decide_now(Question(token=text)), Allowed)


async def test_an_answer_that_another_replica_got_is_taken() -> None:
    others = OtherReplicas()
    first, second = (replace(bench_of(abc=active()), others=others) for _ in range(2))
    assert isinstance(await decide(first, "abc"), Allowed)
    assert isinstance(await decide(second, "abc"), Allowed)
    assert second.introspectors["main"].asked == []
    assert second.seen.shared_hits == [True]


@pytest.mark.parametrize("entry", [b"", b"{}", b"[]", b"null", b'{"issuer": "main"}', b"\xff", b"[" * 5_000])
async def test_an_entry_that_says_nothing_is_a_miss(entry: bytes) -> None:
    bench = bench_of(abc=active())
    engine = bench.engine
    bench.others.entries = dict.fromkeys(await _digests(bench, "abc"), entry)
    assert isinstance(await engine.decide(Question(token="abc")), Allowed)
    assert bench.introspectors["main"].asked[-1] == "abc"


async def _digests(bench: Bench, text: str) -> list[bytes]:
    other = replace(bench_of(), others=OtherReplicas())
    await decide(other, text)
    return other.others.claimed


async def test_a_signature_that_another_replica_checked_is_taken() -> None:
    others, text = OtherReplicas(), token()
    first, second = (Bench(others=others, shared_algorithms=frozenset({"EdDSA"})) for _ in range(2))
    assert isinstance(await decide(first, text), Allowed)
    assert isinstance(await decide(second, text), Allowed)
    assert second.seen.shared_hits == [True]
    assert isinstance(second.ask(text), Allowed)


async def test_a_signature_is_not_asked_about_where_checking_it_is_cheaper() -> None:
    bench = Bench(shared_algorithms=frozenset({"ES384"}))
    assert isinstance(bench.ask(token()), Allowed)
    assert bench.others.recalls == 0


async def test_a_refused_signature_is_not_shared() -> None:
    bench = Bench(shared_algorithms=frozenset({"EdDSA"}))
    await decide(bench, sign(claims(), private_key("EdDSA", which=1), "EdDSA"))
    assert bench.others.entries == {}


async def test_an_identity_of_a_key_that_is_not_trusted_here_is_a_miss() -> None:
    others, text = OtherReplicas(), token()
    first = Bench(others=others, shared_algorithms=frozenset({"EdDSA"}))
    await decide(first, text)
    second = replace(first, source=Source(key_set("EdDSA", which=1)), cache=Bench().cache)
    assert reason(await decide(second, text)) is Reason.BAD_SIGNATURE


async def test_stopping_ends_what_nobody_waits_for() -> None:
    bench = bench_of(abc=active())
    bench.introspectors["main"].gate.clear()
    engine = bench.engine
    waiting = asyncio.create_task(engine.decide(Question(token="abc")))
    await asyncio.sleep(0.01)
    waiting.cancel()
    async with asyncio.timeout(1.0):
        await engine.stop()
    assert bench.others.released == bench.others.claimed != []


def revocation(kind: Kind, value: str | float, **changes: Any) -> Revocation:
    made = Revocation("r1", (ISS,), kind, value, made_at=NOW, expires_at=NOW + 1_000)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.TOKEN_ID, "t1"),
        (Kind.SUBJECT, "alice"),
        (Kind.SESSION, "s1"),
        (Kind.CLIENT, "web"),
        (Kind.ISSUED_BEFORE, NOW + 1.0),
    ],
)
def test_a_revocation_reaches_a_token_that_is_cached(kind: Kind, value: str | float) -> None:
    bench = Bench()
    text = token(jti="t1", sub="alice", sid="s1", client_id="web")
    assert isinstance(bench.ask(text), Allowed)
    bench.revoked.held.add(revocation(kind, value))
    assert reason(bench.ask(text)) is Reason.REVOKED
    bench.revoked.held.remove("r1")
    assert isinstance(bench.ask(text), Allowed)


async def test_a_revocation_reaches_an_opaque_token() -> None:
    bench = bench_of(abc=active(sub="bob"))
    bench.revoked.held.add(revocation(Kind.SUBJECT, "bob"))
    assert reason(await decide(bench, "abc")) is Reason.REVOKED


def test_without_the_list_of_revocations_there_is_no_decision() -> None:
    bench = Bench()
    bench.revoked.unread = SourceUnavailable("Redis is away", 2.0)
    verdict = bench.ask(token())
    assert isinstance(verdict, Denied)
    assert (verdict.reason, verdict.undecided) == (Reason.REVOCATIONS_UNAVAILABLE, True)


def test_a_token_that_is_refused_anyhow_is_so_without_the_list_of_revocations() -> None:
    bench = Bench()
    bench.revoked.unread = SourceUnavailable("Redis is away")
    assert reason(bench.ask(token(exp=NOW - 100))) is Reason.EXPIRED


async def test_a_key_that_was_withdrawn_during_the_inquiry_counts_no_more() -> None:
    text = token()
    bench = bench_of(ALWAYS, **{text: {"active": True}})
    bench.introspectors["main"].gate.clear()
    asking = asyncio.create_task(decide(bench, text))
    await asyncio.sleep(0.01)
    bench.source.keys = key_set("EdDSA", which=1)
    bench.introspectors["main"].gate.set()
    assert reason(await asking) is Reason.BAD_SIGNATURE


async def test_an_answer_of_an_issuer_that_would_not_be_asked_here_is_a_miss() -> None:
    """Another configuration asked it; here the token bears the prefix of another issuer."""
    others = OtherReplicas()
    before = replace(bench_of(gh_1=active()), others=others)
    assert isinstance(await decide(before, "gh_1"), Allowed)
    after = replace(bench_of(asked_issuer(), asked_issuer("second", token_prefix="gh_")), others=others)
    after.introspectors["second"] = Answering()
    assert reason(await decide(after, "gh_1")) is Reason.INACTIVE


async def test_where_answers_do_not_count_nobody_waits_for_another_replica() -> None:
    bench = bench_of(asked_issuer(ttl=0.0), abc=active())
    await decide(bench, "abc")
    assert bench.others.claimed == []


async def test_a_claim_ends_with_its_answer() -> None:
    bench = bench_of(abc=active())
    await decide(bench, "abc")
    assert bench.others.released == bench.others.claimed != []


async def test_without_redis_nothing_was_looked_up_there() -> None:
    bench = bench_of(abc=active())
    bench.others.is_shared = False
    await decide(bench, "abc")
    assert bench.seen.shared_hits == []
