"""What the verifier is held against, and whether it got there. Figures of one run, never assertions of tests."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.suite.results import Results, Spread

Number = float | None


@dataclass(frozen=True, slots=True)
class Bar:
    """``value`` must be ``limit`` or more; or less, with ``at_most``."""

    title: str
    limit: float
    value: Callable[[Results], Number]
    at_most: bool = False
    unit: str = "×"


@dataclass(frozen=True, slots=True)
class Judged:
    """``met`` is None where something that it takes was not measured."""

    title: str
    asked: str
    value: Number
    unit: str
    met: bool | None


def ratio(name: str, *others: str) -> Callable[[Results], Number]:
    """Of a row to the best of others, all of which must be there."""

    def value(results: Results) -> Number:
        mine, theirs = results.per_second(name), [results.per_second(other) for other in others]
        known = [one for one in theirs if one]
        return None if mine is None or len(known) < len(others) else mine / max(known)

    return value


def _p99_to_null(results: Results) -> Number:
    mine = results.p99("verifier-cached-rs256", "half of its own maximum")
    null = results.p99("null", "half of the verifier's maximum")
    return None if mine is None or not null else mine / null


def _megabytes(results: Results) -> Number:
    found = results.identities
    return None if found is None else (found.full - found.empty) / 1e6


def _start(results: Results) -> Number:
    return Spread.of(results.starts).median if results.starts else None


CACHED, ANEW = "verifier-cached-rs256", "verifier-new-rs256"

BARS = (
    Bar(
        "cached RS256 to the better of Envoy with cache and HAProxy",
        3,
        ratio(CACHED, "envoy-cached-rs256", "haproxy-rs256"),
    ),
    Bar("cached RS256 to the null responder", 0.75, ratio(CACHED, "null")),
    Bar("RS256 verified anew to Envoy without cache", 1.3, ratio(ANEW, "envoy-new-rs256")),
    Bar("RS256 verified anew to HAProxy", 1, ratio(ANEW, "haproxy-rs256")),
    Bar("ES256 verified anew to Envoy without cache", 1.3, ratio("verifier-new-es256", "envoy-new-es256")),
    Bar("ES256 verified anew to HAProxy", 1, ratio("verifier-new-es256", "haproxy-es256")),
    Bar("cached RS256 to the same without the fast lane", 3, ratio(CACHED, "verifier-lane-off")),
    Bar("cached RS256 to FastAPI with PyJWT", 10, ratio(CACHED, "fastapi-rs256")),
    Bar("RS256 verified anew to FastAPI with PyJWT", 3, ratio(ANEW, "fastapi-rs256")),
    Bar("two workers on two cores to one", 1.8, ratio("verifier-two-workers", CACHED)),
    Bar("p99 at half of the maximum to that of the null responder", 3, _p99_to_null, at_most=True),
    Bar("memory for 100,000 identities", 200, _megabytes, at_most=True, unit=" MB"),
    Bar("from start to ready", 0.6, _start, at_most=True, unit=" s"),
)


def judge(bar: Bar, results: Results) -> Judged:
    value = bar.value(results)
    met = None if value is None else (value <= bar.limit if bar.at_most else value >= bar.limit)
    asked = f"{'≤' if bar.at_most else '≥'} {bar.limit:g}{bar.unit}"
    return Judged(bar.title, asked, value, bar.unit, met)


def judged(results: Results) -> list[Judged]:
    return [judge(bar, results) for bar in BARS]
