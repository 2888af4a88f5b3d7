"""Keys over time, against a clock that the test turns."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import eventually, private_key, public_jwk
from verifier.core import keys
from verifier.core.keys import KeySet
from verifier.ports import SourceUnavailable
from verifier.remote.key_source import Freshness, RefreshingKeys, refresh_delay, retry_delay
from verifier.remote.origins import Fetched

FRESHNESS = Freshness(refresh=600.0, max_stale=3600.0, cooldown=10.0)


def key_set(*which: int) -> KeySet:
    return keys.load_jwks({"keys": [public_jwk(private_key("EdDSA", f"k{n}", n)) for n in which]})


@dataclass
class Origin:
    """Answers with ``upcoming`` in turn, the last one for ever."""

    upcoming: list[Fetched | Exception]
    fetches: int = 0
    known: Fetched | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def fetch(self, previous: Fetched | None) -> Fetched:
        self.fetches += 1
        await self.gate.wait()
        outcome = self.upcoming.pop(0) if len(self.upcoming) > 1 else self.upcoming[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def last_known(self) -> Fetched | None:
        return self.known


@dataclass
class Seen:
    fetched: list[bool] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    changes: list[frozenset[keys.Key]] = field(default_factory=list)

    def keys_fetched(self, issuer: str, keys: KeySet, *, changed: bool, shared: bool) -> None:
        self.fetched.append(changed)

    def keys_failed(self, issuer: str, detail: str, *, usable: bool) -> None:
        self.failed.append(detail)

    def changed(self, issuer: str, keys: KeySet) -> None:
        self.changes.append(keys.held)


@dataclass
class Bench:
    source: RefreshingKeys
    origin: Origin
    seen: Seen
    clock: list[float]

    def pass_time(self, seconds: float) -> None:
        self.clock[0] += seconds


def bench(*upcoming: Fetched | Exception) -> Bench:
    clock, origin, seen = [1000.0], Origin(list(upcoming)), Seen()
    source = RefreshingKeys(
        issuer="main",
        origin=origin,
        freshness=FRESHNESS,
        observer=seen,
        on_change=seen.changed,
        clock=lambda: clock[0],
        jitter=lambda: 0.0,
    )
    return Bench(source, origin, seen, clock)


DOWN = SourceUnavailable("down", 3.0)


async def failed(source: RefreshingKeys) -> None:
    with pytest.raises(SourceUnavailable):
        await source.refresh()


async def test_before_the_first_fetch_there_are_no_keys_and_requests_cause_none() -> None:
    b = bench(Fetched(key_set(0)))
    assert b.source.current() is None
    assert not b.source.may_refresh()
    assert not b.source.status().attempted


async def test_a_fetch_brings_the_keys() -> None:
    b = bench(Fetched(key_set(0)))
    await b.source.refresh()
    assert b.source.current() == key_set(0)
    assert (b.source.status().keys, b.source.status().age, b.seen.fetched) == (1, 0.0, [True])


async def test_all_who_need_keys_share_one_fetch() -> None:
    b = bench(Fetched(key_set(0)))
    await asyncio.gather(*(b.source.refresh() for _ in range(100)))
    assert b.origin.fetches == 1


async def test_an_issuer_that_asks_for_patience_is_not_asked_sooner_whoever_needs_keys() -> None:
    b = bench(Fetched(key_set(0)), SourceUnavailable("busy", retry_after=30.0))
    await b.source.refresh()
    b.pass_time(FRESHNESS.cooldown)
    await failed(b.source)
    b.pass_time(29.0)
    assert not b.source.may_refresh()
    b.pass_time(1.0)
    assert b.source.may_refresh()


async def test_a_waiter_that_gives_up_does_not_end_the_fetch_for_others() -> None:
    b = bench(Fetched(key_set(0)))
    b.origin.gate.clear()
    quitter, stayer = asyncio.create_task(b.source.refresh()), asyncio.create_task(b.source.refresh())
    await asyncio.sleep(0)
    quitter.cancel()
    b.origin.gate.set()
    await stayer
    assert b.source.current() is not None
    assert b.origin.fetches == 1


async def test_fetches_are_a_cooldown_apart_whoever_asks() -> None:
    b = bench(Fetched(key_set(0)))
    await b.source.refresh()
    for _ in range(100):
        b.pass_time(1.0)
        if b.source.may_refresh():
            await b.source.refresh()
    assert b.origin.fetches == 1 + 10


async def test_a_failed_fetch_counts_for_the_cooldown_too() -> None:
    b = bench(Fetched(key_set(0)), DOWN)
    await b.source.refresh()
    b.pass_time(10.0)
    await failed(b.source)
    assert not b.source.may_refresh()


async def test_while_a_fetch_is_under_way_it_can_be_joined() -> None:
    b = bench(Fetched(key_set(0)))
    b.origin.gate.clear()
    waiter = asyncio.create_task(b.source.refresh())
    await asyncio.sleep(0)
    assert b.source.may_refresh()
    b.origin.gate.set()
    await waiter


async def test_a_key_that_left_the_set_is_gone_with_the_next_fetch() -> None:
    b = bench(Fetched(key_set(0, 1)), Fetched(key_set(1)))
    await b.source.refresh()
    await b.source.refresh()
    assert b.seen.changes == [key_set(0, 1).held, key_set(1).held]


async def test_an_empty_set_is_taken_at_its_word() -> None:
    b = bench(Fetched(key_set(0)), Fetched(key_set()))
    await b.source.refresh()
    await b.source.refresh()
    assert b.source.current() == key_set()


async def test_an_unchanged_set_is_no_change() -> None:
    b = bench(Fetched(key_set(0)), Fetched(key_set(0)))
    await b.source.refresh()
    await b.source.refresh()
    assert b.seen.fetched == [True, False]
    assert len(b.seen.changes) == 1


@pytest.mark.parametrize("error", [DOWN, ValueError("odd"), OSError("odd"), RuntimeError("odd")])
async def test_whatever_a_fetch_raises_the_last_keys_stay(error: Exception) -> None:
    b = bench(Fetched(key_set(0)), error)
    await b.source.refresh()
    await failed(b.source)
    assert b.source.current() == key_set(0)
    assert b.source.status().last_error == (error.detail if isinstance(error, SourceUnavailable) else "odd")


async def test_keys_are_stale_from_when_an_answer_is_overdue_until_one_comes() -> None:
    b = bench(Fetched(key_set(0)), DOWN, DOWN, Fetched(key_set(0)))
    await b.source.refresh()
    b.pass_time(600.0)
    await failed(b.source)
    assert not b.source.status().stale
    b.pass_time(1.0)
    assert b.source.status().stale
    await failed(b.source)
    assert b.source.status().stale
    await b.source.refresh()
    assert not b.source.status().stale


async def test_keys_that_are_too_old_to_serve_are_not_called_stale() -> None:
    b = bench(Fetched(key_set(0)), DOWN)
    await b.source.refresh()
    b.pass_time(3601.0)
    await failed(b.source)
    assert not b.source.status().stale


async def test_keys_are_kept_through_an_outage_up_to_the_limit_and_not_longer() -> None:
    b = bench(Fetched(key_set(0)), DOWN)
    await b.source.refresh()
    await failed(b.source)
    b.pass_time(3600.0)
    assert b.source.current() is not None
    b.pass_time(1.0)
    assert b.source.current() is None
    assert b.source.status().keys == 0


async def test_a_success_ends_an_outage() -> None:
    b = bench(DOWN, Fetched(key_set(0)))
    await failed(b.source)
    assert b.source.shortfall() is not None
    await b.source.refresh()
    assert (b.source.shortfall(), b.source.status().last_error) == (None, None)


async def test_a_failure_is_no_shortfall_while_the_keys_are_fresh() -> None:
    b = bench(Fetched(key_set(0)), DOWN)
    await b.source.refresh()
    await failed(b.source)
    assert b.source.shortfall() is None
    b.pass_time(601.0)
    assert b.source.shortfall() is not None


async def test_old_keys_without_a_failure_are_no_shortfall() -> None:
    b = bench(Fetched(key_set(0)))
    await b.source.refresh()
    b.pass_time(3000.0)
    assert b.source.shortfall() is None


def test_before_the_first_fetch_the_shortfall_is_that_there_was_none() -> None:
    shortfall = bench(DOWN).source.shortfall()
    assert shortfall is not None
    assert shortfall.detail == "not fetched yet"


async def test_a_shortfall_says_when_to_come_again() -> None:
    b = bench(SourceUnavailable("down", 42.0))
    await failed(b.source)
    shortfall = b.source.shortfall()
    assert shortfall is not None
    assert (shortfall.detail, shortfall.retry_after) == ("down", 42.0)


@pytest.fixture
async def running() -> AsyncIterator[Callable[[Bench], Bench]]:
    started: list[RefreshingKeys] = []

    def run(b: Bench) -> Bench:
        b.source.start()
        started.append(b.source)
        return b

    yield run
    for source in started:
        await source.stop()


async def test_started_it_fetches_at_once(running: Callable[[Bench], Bench]) -> None:
    b = running(bench(Fetched(key_set(0))))
    await eventually(b.source.current)


async def test_an_earlier_retry_is_not_slept_through() -> None:
    origin, seen = Origin([Fetched(key_set(0)), SourceUnavailable("down", 0.0)]), Seen()
    freshness = Freshness(refresh=60.0, max_stale=600.0, cooldown=0.1)
    source = RefreshingKeys(issuer="main", origin=origin, freshness=freshness, observer=seen, on_change=seen.changed)
    source.start()
    await eventually(lambda: origin.fetches == 1)
    await failed(source)
    await eventually(lambda: origin.fetches >= 3)
    await source.stop()


async def test_a_fetch_has_one_deadline_for_all_of_its_parts() -> None:
    origin, seen = Origin([Fetched(key_set(0))]), Seen()
    origin.gate.clear()
    quick = Freshness(deadline=0.05)
    source = RefreshingKeys(issuer="main", origin=origin, freshness=quick, observer=seen, on_change=seen.changed)
    await failed(source)
    assert seen.failed == ["no answer in time"]


async def test_a_defect_around_a_fetch_does_not_end_the_fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Seen, "keys_fetched", broken)
    monkeypatch.setattr(Seen, "keys_failed", broken)
    b = bench(Fetched(key_set(0)))
    b.source.start()
    await eventually(lambda: b.origin.fetches >= 1)
    b.pass_time(1e6)
    await eventually(lambda: b.origin.fetches >= 2)
    await b.source.stop()


async def test_stopping_ends_a_fetch_under_way() -> None:
    b = bench(Fetched(key_set(0)))
    b.origin.gate.clear()
    b.source.start()
    await asyncio.sleep(0.01)
    await b.source.stop()
    assert b.origin.fetches == 1


async def test_stopping_what_was_never_started_is_fine() -> None:
    await bench(DOWN).source.stop()


async def test_it_goes_on_fetching_by_itself() -> None:
    origin, seen = Origin([SourceUnavailable("down", 0.0), Fetched(key_set(0), max_age=0.0)]), Seen()
    quick = Freshness(refresh=0.02, max_stale=10.0, cooldown=0.01)
    source = RefreshingKeys(issuer="main", origin=origin, freshness=quick, observer=seen, on_change=seen.changed)
    source.start()
    await eventually(lambda: origin.fetches >= 5)
    await source.stop()
    assert (seen.failed, seen.fetched[0], set(seen.fetched[1:])) == (["down"], True, {False})


@pytest.mark.parametrize(
    ("max_age", "jitter", "expected"),
    [
        (None, 0.0, 600.0),
        (None, 0.5, 540.0),
        (86_400.0, 0.0, 600.0),
        (120.0, 0.0, 120.0),
        (5.0, 0.0, 60.0),
        (0.0, 0.0, 60.0),
    ],
)
def test_a_refresh_comes_ahead_and_max_age_can_only_shorten_it(
    max_age: float | None, jitter: float, expected: float
) -> None:
    assert refresh_delay(FRESHNESS, max_age, jitter) == pytest.approx(expected)


def test_a_short_refresh_is_never_lengthened() -> None:
    assert refresh_delay(Freshness(refresh=2.0), 0.0, 0.0) == 2.0


@pytest.mark.parametrize(
    ("failures", "known", "expected"),
    [
        (1, False, 1.0),
        (2, False, 2.0),
        (5, False, 10.0),
        (1, True, 10.0),
        (3, True, 40.0),
        (9, True, 60.0),
        (999, True, 60.0),
    ],
)
def test_retries_back_off_and_are_quick_while_there_are_no_keys(failures: int, known: bool, expected: float) -> None:
    assert retry_delay(FRESHNESS, failures, 0.0, 0.0, known=known) == expected


def test_retry_after_is_honoured() -> None:
    assert retry_delay(FRESHNESS, 1, 120.0, 0.0, known=True) == 120.0


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    failures=st.integers(1, 10_000),
    retry_after=st.floats(0, 300),
    jitter=st.floats(0, 0.999),
    cooldown=st.floats(1, 100),
    refresh=st.floats(1, 86_400),
)
def test_with_keys_a_retry_never_comes_before_the_cooldown(
    failures: int, retry_after: float, jitter: float, cooldown: float, refresh: float
) -> None:
    freshness = Freshness(refresh, 86_400.0, cooldown)
    assert retry_delay(freshness, failures, retry_after, jitter, known=True) >= cooldown


async def test_a_shared_set_that_is_older_than_the_one_in_hand_is_not_trusted() -> None:
    """Somebody put it back, and keys may have been withdrawn since."""
    now = time.time()
    newer = Fetched(key_set(2), fetched_at=now, shared=True)
    older = Fetched(key_set(1), fetched_at=now - 100, shared=True)
    made = bench(newer, older)
    await made.source.refresh()
    made.pass_time(FRESHNESS.cooldown)
    await made.source.refresh()
    assert made.source.current() == newer.keys


async def test_it_is_told_when_keys_are_looked_for_next() -> None:
    b = bench(Fetched(key_set(0)))
    await b.source.refresh()
    assert (b.source.status().next_look, b.source.status().freshness) == (600.0, FRESHNESS)
    b.pass_time(500.0)
    assert b.source.status().next_look == 100.0
    b.origin.gate.clear()
    asking = asyncio.create_task(b.source.refresh())
    await asyncio.sleep(0)
    assert b.source.status().next_look == 0.0  # it is now
    b.origin.gate.set()
    await asking
    b.pass_time(700.0)
    assert b.source.status().next_look == 0.0
