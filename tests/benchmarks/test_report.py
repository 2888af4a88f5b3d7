import json

import pytest

from benchmarks.suite import bars, report
from benchmarks.suite.bars import Bar
from benchmarks.suite.results import (
    ANEW_RS256,
    CACHED_RS256,
    Identities,
    Latency,
    Results,
    Sample,
    Spread,
    Throughput,
    Times,
)


def row(name: str, *per_second: float, group: str = CACHED_RS256, error: str = "") -> Throughput:
    samples = [Sample(one, {"server": 10.0}, 50_000_000, 60_000_000) for one in per_second]
    return Throughput(name, name.replace("-", " "), group, "RS256", samples, error)


def results(*rows: Throughput, **more: object) -> Results:
    made = Results(
        {"cpu": "Some CPU", "cores": 4, "kernel": "6.1", "hypervisor": "no"},
        {"python": "3.13.1"},
        {"connections": 32, "tokens": 5_000, "rounds": 3, "seconds": 3},
        {one.name: one for one in rows},
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


def latency(name: str, p99: float, rate: float = 1_000, achieved: float = 1_000, late: float = 0.0) -> Latency:
    return Latency(name, name, rate, "half of its own maximum", [Times(0.1, p99, 2 * p99, achieved, late, 0)])


def test_a_figure_is_the_median_of_its_rounds_with_their_range() -> None:
    assert row("null", 10, 50, 20).per_second == Spread(20, 10, 50)
    assert report.shown(Spread(20_000, 9_999.6, 50_000)) == "20,000 (10,000–50,000)"


def test_the_work_of_all_programs_of_a_row_is_added_up() -> None:
    made = row("nginx-verifier")
    made.samples.append(Sample(10_000, {"nginx": 20.0, "verifier": 30.0}, 1, 1))
    assert made.cpu.median == 50.0
    assert made.busy == pytest.approx(0.3)
    assert "50.0 (50.0–50.0): nginx 20.0 + verifier 30.0" in report.markdown(results(made))


def test_a_ratio_is_taken_to_the_best_of_the_others() -> None:
    made = results(row("mine", 60), row("slow", 10), row("fast", 30))
    assert bars.ratio("mine", "slow", "fast")(made) == 2


def test_a_ratio_to_something_that_was_not_measured_is_none() -> None:
    made = results(row("mine", 60), row("slow", 10), row("wrong", 30, error="it answers 500"))
    assert bars.ratio("mine", "slow", "absent")(made) is None
    assert bars.ratio("mine", "wrong")(made) is None


@pytest.mark.parametrize(
    ("limit", "at_most", "met"), [(2, False, True), (2.1, False, False), (2, True, True), (1.9, True, False)]
)
def test_a_bar_is_met_at_its_limit_and_beyond(limit: float, at_most: bool, met: bool) -> None:
    bar = Bar("half as fast again", limit, lambda _: 2.0, at_most)
    assert bars.judge(bar, results()).met is met


def test_a_bar_without_figures_is_neither_met_nor_missed() -> None:
    assert {one.met for one in bars.judged(results())} == {None}
    assert "**missed**" not in report.markdown(results())


def test_the_bars_that_are_no_ratios_of_rows_are_judged_too() -> None:
    null = latency("null", 1.0)
    null.meaning = "half of the verifier's maximum"
    made = results(
        latencies=[latency("verifier-cached-rs256", 4.0), null],
        identities=Identities(100_000, 80_000_000, 230_000_000),
        starts=[0.5, 0.4, 0.9],
    )
    judged = {one.title: (one.value, one.met) for one in bars.judged(made) if one.met is not None}
    assert judged == {
        "p99 at half of the maximum to that of the null responder": (4.0, False),
        "memory for 100,000 identities": (150.0, True),
        "from start to ready": (0.5, True),
    }


def test_a_row_that_went_wrong_is_named_and_has_no_figure() -> None:
    text = report.markdown(results(row("null", 10), row("envoy", 12_345, error="it answers a good token with 500")))
    assert "- envoy: it answers a good token with 500" in text
    assert "12,345" not in text


def test_what_was_left_out_is_named_with_the_reason() -> None:
    text = report.markdown(results(left_out={"HAProxy": "haproxy is not on this machine"}))
    assert "- HAProxy: haproxy is not on this machine" in text


def test_the_fastest_row_of_a_group_comes_first() -> None:
    (group,) = report.groups(results(row("slow", 1), row("fast", 3), row("middling", 2))).values()
    assert [one.name for one in group] == ["fast", "middling", "slow"]


def test_peers_without_a_cache_stand_beside_those_that_have_one() -> None:
    found = report.groups(results(row("null", 9), row("haproxy-rs256", 5, group=ANEW_RS256)))
    assert [one.title for one in found[CACHED_RS256]] == ["null", "HAProxy jwt_verify, has no cache"]
    assert [one.title for one in found[ANEW_RS256]] == ["haproxy rs256"]


def test_a_table_has_a_rule_and_figures_on_the_right() -> None:
    assert report.table(["Server", "1/s"], [["null", "10"]]) == "| Server | 1/s |\n| --- | ---: |\n| null | 10 |"


def test_a_rate_that_the_generator_did_not_hold_is_doubtful() -> None:
    assert latency("null", 1.0).doubt == ""
    assert latency("null", 1.0, achieved=900).doubt == "only 900/s were achieved"
    assert latency("null", 1.0, late=0.05).doubt == "5.0% were sent late"


def test_times_on_a_core_that_others_used_are_doubtful() -> None:
    disturbed = latency("null", 1.0)
    disturbed.samples = [Times(0.1, 1.0, 2.0, 1_000, 0.0, 0, neighbours=0.25)]
    assert disturbed.doubt == "others took 25% of the core"


def test_the_json_has_every_sample_and_the_bars() -> None:
    said = json.loads(report.as_json(results(row("null", 10, 20))))
    assert [one["per_second"] for one in said["rows"]["null"]["samples"]] == [10, 20]
    assert len(said["bars"]) == len(bars.BARS)
