import io
import json

from verifier.core.reasons import Reason
from verifier.core.verdict import Allowed, WouldDeny
from verifier.observability.log import open_log
from verifier.observability.metrics import Metrics
from verifier.observability.observer import TRIAL_LINES, Observer
from verifier.observability.pace import Pace


def test_a_second_admits_so_many_and_the_next_one_begins_anew() -> None:
    now = 100.0
    pace = Pace(2, lambda: now)
    assert [pace.admit() for _ in range(4)] == [0, 0, None, None]
    now = 100.99
    assert pace.admit() is None
    now = 101.0
    assert [pace.admit() for _ in range(3)] == [3, 0, None]


def test_a_clock_that_went_back_stops_nothing() -> None:
    now = 100.0
    pace = Pace(1, lambda: now)
    pace.admit()
    now = 50.0
    assert pace.admit() == 0


def test_of_what_would_be_denied_all_is_counted_and_some_is_logged() -> None:
    at, stream = [5.0], io.StringIO()
    metrics = Metrics()
    observer = Observer(metrics, open_log("json", "info", stream), log_denials=True, clock=lambda: at[0])
    found = WouldDeny("route", Reason.ROUTE_DENIED, "no", "closed", "/closed")
    for at[0] in (5.0, 5.5, 6.0):
        for _ in range(TRIAL_LINES):
            observer.decided("verify", Allowed(None, 60.0, would_deny=(found,)), "one")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["dropped"] for line in lines] == [None] * TRIAL_LINES + [TRIAL_LINES] + [None] * (TRIAL_LINES - 1)
    labels = {"surface": "verify", "issuer": "", "rule": "route", "reason": "route_denied"}
    assert metrics.registry.get_sample_value("verifier_would_deny_total", labels) == 3 * TRIAL_LINES
