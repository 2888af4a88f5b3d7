"""``python -m benchmarks.suite``: one run of everything, or of what is named."""

import argparse
import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from benchmarks.suite import chart, plan, report
from benchmarks.suite.machine import cores, polls_when_idle
from benchmarks.suite.run import FULL, QUICK, Suite
from tests.e2e.gateways.programs import find

RESULTS = Path(__file__).parents[1] / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main rows, briefly")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="what begins so: rows, latency, memory, start; --list shows all"
    )
    parser.add_argument("--list", action="store_true", help="show what can be measured, and end")
    parser.add_argument(
        "--spinners",
        action=argparse.BooleanOptionalAction,
        default=not polls_when_idle(),
        help="keep the core of the load from going idle between answers (default: where an idle core sleeps at once)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where results.json, results.md and chart.png go")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    layout = cores()
    if asked.list:
        for one in plan.planned(layout):
            print(f"{one.row.name:24}{one.lacks or one.row.title}")
        return 0
    names = [one.row.name for one in plan.planned(layout)] + ["latency", "memory", "start"]
    unknown = [wanted for wanted in asked.only or () if not any(name.startswith(wanted) for name in names)]
    if unknown:
        raise SystemExit(f"nothing is named {' or '.join(unknown)}; --list shows all names")
    if find("wrk") is None:
        raise SystemExit("wrk is needed, which sends the load: apt-get install wrk")
    whole = not asked.quick and not asked.only
    out: Path = asked.out or (RESULTS if whole else Path(tempfile.mkdtemp(prefix="bench-")))
    out.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, layout.load)  # this process is not to be where a server is
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        extent, only = QUICK if asked.quick else FULL, asked.only or ()
        results = Suite(Path(folder), layout, extent, only, console, spin=asked.spinners).run()
    if find_spec("matplotlib") is None:
        results.left_out["the chart"] = "matplotlib is not installed (make bench does)"
    else:
        chart.draw(results, out / "chart.png")
    text = report.markdown(results)
    (out / "results.json").write_text(report.as_json(results))
    (out / "results.md").write_text(text)
    print(text)
    console.print(f"written to {out}")
    return 1 if results.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
