"""The chart that the README shows: decisions per second as bars, our own in colour, peers in grey."""

from pathlib import Path
from typing import Any

from benchmarks.suite.report import groups
from benchmarks.suite.results import ANEW_ES256, ANEW_RS256, CACHED_RS256, Results, Throughput

SHOWN = (CACHED_RS256, ANEW_RS256, ANEW_ES256)
OURS, FLOOR, PEERS = "#1f6feb", "#d0d7de", "#8c959f"


def colour(row: Throughput) -> str:
    if row.name.startswith("verifier"):
        return OURS
    return FLOOR if row.name == "null" else PEERS


def draw(results: Results, file: Path) -> None:
    """Nothing, where there is nothing to show."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second, and is not among the development dependencies

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - likewise

    found = groups(results)
    shown = {name: found[name] for name in SHOWN if name in found}
    if not shown:
        return
    heights = [len(rows) for rows in shown.values()]
    figure, axes = plt.subplots(
        len(shown),
        1,
        figsize=(8.4, 0.34 * sum(heights) + 0.75 * len(shown)),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (name, rows) in zip(axes[:, 0], shown.items(), strict=True):
        _group(axis, name, rows)
    axes[-1, 0].set_xlabel(
        f"decisions per second, one core each but for two workers ({results.machine['cpu']}); "
        "lines are the ranges of the rounds",
        fontsize=8,
    )
    figure.savefig(file, dpi=160)
    plt.close(figure)


def _group(axis: Any, name: str, rows: list[Throughput]) -> None:
    medians = [row.per_second.median for row in rows]
    below = [row.per_second.median - row.per_second.least for row in rows]
    above = [row.per_second.most - row.per_second.median for row in rows]
    axis.barh(
        [row.title for row in rows],
        medians,
        height=0.72,
        color=[colour(row) for row in rows],
        xerr=[below, above],
        error_kw={"ecolor": "#24292f", "elinewidth": 0.9, "capsize": 2},
    )
    for place, row in enumerate(rows):
        axis.annotate(
            f"{row.per_second.median:,.0f}",
            (row.per_second.most, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set_title(name, loc="left", fontsize=9, fontweight="bold")
    axis.tick_params(labelsize=8, length=0)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for side in axis.spines:
        axis.spines[side].set_visible(False)
