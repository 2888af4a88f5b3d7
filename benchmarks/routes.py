"""What finding a route costs, for one route and for a thousand (``make bench-routes``)."""

import statistics
import timeit

from verifier.core.routes import Access, Route, Routes, Target, parse

ROUNDS = 9
REPEATS = 20_000
TARGET = Target("GET", "api.acme.example", "/service-500/7/part/a/b")
OWN = Route("own", parse("/service-500/{id}/part/**"))


def microseconds(routes: Routes) -> float:
    return 1e6 * timeit.timeit(lambda: routes.rule(TARGET), number=REPEATS) / REPEATS


def main() -> None:
    many = [Route(f"r{n}", parse(f"/service-{n}/{{id}}/part/**")) for n in range(1_000)]
    hosts = [Route(f"h{n}", OWN.pattern, hosts=frozenset({f"h{n}.example"})) for n in range(999)]
    tables = {
        "1 route": [OWN],
        "1,000 routes by path": many,
        "1,000 routes by host": [*hosts, OWN],
        "1,000 routes that begin with any segment": [
            *(Route(f"a{n}", parse(f"/*/{{id}}/other-{n}/**")) for n in range(999)),
            OWN,
        ],
    }
    measured: dict[str, list[float]] = {name: [] for name in tables}
    made = {name: Routes(routes, default=Access.DENIED) for name, routes in tables.items()}
    for _ in range(ROUNDS):
        for name, routes in made.items():
            measured[name].append(microseconds(routes))
    base = statistics.median(measured["1 route"])
    print(f"{ROUNDS} interleaved rounds of {REPEATS} decisions; µs, median (range)\n\n| Policy | µs | Over one route |")
    print("|---|---|---|")
    for name, values in measured.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.2f} ({min(values):.2f}–{max(values):.2f}) | {median - base:+.2f} |")


if __name__ == "__main__":
    main()
