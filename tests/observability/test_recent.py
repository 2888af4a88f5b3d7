"""What is kept of the recent past, and what several processes' is together."""

import io

import pytest

from verifier.core.reasons import Reason
from verifier.core.verdict import Allowed, Denied
from verifier.observability import recent
from verifier.observability.log import open_log
from verifier.observability.metrics import Metrics
from verifier.observability.observer import Observer
from verifier.observability.recent import MOST, Denial, Noted, Recent, RedisTrouble


def note(kept: Recent, at: float, reason: Reason = Reason.EXPIRED, issuer: str = "main") -> None:
    denied = Denied(reason, f"at {at:g}", issuer, hint="a hint")
    kept.denied(denied, surface="verify", outcome="deny", at=at, request_id="r", trace_id=None)


def denial(at: float, reason: str = "expired", issuer: str = "main") -> Denial:
    return Denial(at, "verify", issuer, "deny", reason, f"at {at:g}", "a hint", "r", None)


def test_the_newest_denial_is_first() -> None:
    kept = Recent()
    note(kept, 1.0)
    note(kept, 2.0)
    assert kept.noted().denials == (denial(2.0), denial(1.0))


def test_no_more_are_kept_than_there_is_room_for() -> None:
    kept = Recent()
    for at in range(MOST + 5):
        note(kept, at)
    assert [one.at for one in kept.noted().denials] == [*range(MOST + 4, 4, -1)]


def test_the_last_of_each_issuer_and_reason_stays_when_others_pushed_it_out() -> None:
    kept = Recent()
    note(kept, 0.0, Reason.REVOKED)
    note(kept, 0.5, issuer="other")
    for at in range(1, MOST + 5):
        note(kept, at)
    assert set(kept.noted().last) == {denial(0.0, "revoked"), denial(0.5, issuer="other"), denial(MOST + 4)}


def test_redis_is_unavailable_until_it_is_not_and_its_last_error_stays() -> None:
    kept = Recent()
    kept.redis_failed(TimeoutError("a text"), 1.0)
    kept.redis_breaker(is_open=True, at=2.0)
    kept.redis_failed(ConnectionError("a text"), 3.0)
    assert kept.noted().redis == RedisTrouble(2.0, "ConnectionError", 3.0)
    kept.redis_breaker(is_open=False, at=4.0)
    assert kept.noted().redis == RedisTrouble(None, "ConnectionError", 3.0)


def test_denials_of_several_processes_are_in_one_order() -> None:
    one = Noted((denial(5.0), denial(1.0)), (denial(5.0),))
    other = Noted((denial(3.0, "revoked"), denial(2.0)), (denial(3.0, "revoked"), denial(2.0)))
    together = recent.merged([one, other])
    assert [found.at for found in together.denials] == [5.0, 3.0, 2.0, 1.0]
    assert set(together.last) == {denial(5.0), denial(3.0, "revoked")}


def test_several_processes_keep_no_more_than_one() -> None:
    full = Noted(tuple(denial(at) for at in range(MOST, 0, -1)))
    assert len(recent.merged([full, full]).denials) == MOST


@pytest.mark.parametrize(
    ("troubles", "worst"),
    [
        ([], RedisTrouble()),
        ([RedisTrouble(), RedisTrouble()], RedisTrouble()),
        (
            [RedisTrouble(5.0, "A", 6.0), RedisTrouble(4.0, "B", 7.0), RedisTrouble()],
            RedisTrouble(4.0, "B", 7.0),
        ),
        ([RedisTrouble(None, "A", 6.0), RedisTrouble()], RedisTrouble(None, "A", 6.0)),
    ],
)
def test_the_longest_trouble_with_redis_counts(troubles: list[RedisTrouble], worst: RedisTrouble) -> None:
    assert recent.merged([Noted(redis=one) for one in troubles]).redis == worst


@pytest.mark.parametrize("log_denials", [True, False])
def test_denials_are_kept_whether_or_not_they_are_logged(log_denials: bool) -> None:
    observer = Observer(Metrics(), open_log("json", "info", io.StringIO()), log_denials=log_denials)
    observer.decided("verify", Allowed(None, 1.0), "r1")
    observer.decided("verify", Denied(Reason.EXPIRED, "over", "main"), "r2", "t2")
    observer.decided("verify", Denied(Reason.OVERLOADED, "too many", "main"), "r3")
    assert [(one.outcome, one.request_id, one.trace_id) for one in observer.recent.noted().denials] == [
        ("undecided", "r3", None),
        ("deny", "r2", "t2"),
    ]
