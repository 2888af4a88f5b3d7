"""Mixed traffic for as long as is wanted, with rotations, reloads and faults: what grows, and what gets slower."""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.suite.machine import cores, description, versions
from tests.faults.answers import Answers
from tests.faults.report import SHOWN
from tests.faults.stage import IssuerProcess, Stage, Verifier
from tests.faults.traffic import Stream
from tests.redis_servers import RedisServer, redis_server
from tests.support import private_key

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
MINUTE = 60.0
ROTATES = 2
"""Minutes between two rotations."""
SICK = 0.6
"""Seconds of each minute: one in a hundred."""
WARM = 2
"""Minutes at the beginning in which caches fill; they are no part of a slope."""


@dataclass(frozen=True, slots=True)
class Minute:
    """``memory`` in bytes, at its end. Milliseconds are those of good tokens."""

    fault: str
    requests: int
    p50: float
    p99: float
    memory: int
    descriptors: int
    wrong_allows: int
    client_errors: int
    refused: int


@dataclass
class Scene:
    """All that takes part."""

    stage: Stage
    issuer: IssuerProcess
    asked: IssuerProcess
    verifier: Verifier
    redis: RedisServer
    rotations: int = 0
    revoked: list[str] = field(default_factory=list)

    async def rotate(self) -> None:
        """The next key is published beside the last one, which is the one before it no more."""
        self.rotations += 1
        last, self.issuer.signing = self.issuer.signing, private_key("EdDSA", f"soak-{self.rotations}")
        await self.issuer.publish(last, self.issuer.signing)

    async def revoke(self) -> None:
        name = f"taken-back-{len(self.revoked)}"
        await self.verifier.admin("POST", "/revocations", json={"issuer": "main", "jti": name})
        self.revoked.append(self.issuer.token(name, jti=name))

    def streams(self) -> list[Stream]:
        """Tokens of this minute, which outlive it."""
        stage, issuer = self.stage, self.issuer
        known = stage.good(issuer, 100, name="known")
        expired = stage.tokens(issuer, 200, iat=int(time.time()) - 900, exp=int(time.time()) - 600)
        return [
            known,
            stage.good(issuer, 40, MINUTE, "new"),
            Stream("expired", 20, False, expired),
            Stream("forged", 20, False, known.tokens, "signature"),
            Stream("unknown kid", 10, False, known.tokens, "kid"),
            Stream("opaque", 40, True, stage.opaque(600)),
            Stream("inactive", 10, False, stage.opaque(300, good=False)),
            Stream("revoked", 10, False, str(stage.path("revoked", "".join(f"{one}\n" for one in self.revoked)))),
        ]

    async def reload(self, number: int) -> None:
        made = {**self.verifier.configuration, "decision_max_age": f"{number % 50 + 1}s"}
        new = self.verifier.file.with_suffix(".new")
        new.write_text(json.dumps(made))
        new.rename(self.verifier.file)
        os.kill(self.verifier.process.pid, signal.SIGHUP)


async def _flush(scene: Scene) -> None:
    with scene.redis.admin() as admin:
        admin.flushall()


async def _nothing(_scene: Scene) -> None:
    """Some faults are over with their beginning."""


async def _halt_redis(scene: Scene) -> None:
    scene.redis.pause()


async def _resume_redis(scene: Scene) -> None:
    scene.redis.resume()


async def _halt(scene: Scene) -> None:
    os.kill(scene.verifier.process.pid, signal.SIGSTOP)
    await asyncio.sleep(0.1)
    os.kill(scene.verifier.process.pid, signal.SIGCONT)


Change = Callable[[Scene], Awaitable[None]]
FAULTS: tuple[tuple[str, Change, Change], ...] = (
    ("issuer away", lambda scene: scene.issuer.refuse(), lambda scene: scene.issuer.accept()),
    ("Redis silent", _halt_redis, _resume_redis),
    ("introspection fails", lambda scene: scene.asked.misbehave("flapping"), lambda scene: scene.asked.behave()),
    ("Redis flushed", _flush, _nothing),
    ("issuer talks nonsense", lambda scene: scene.issuer.misbehave("html"), lambda scene: scene.issuer.behave()),
    ("loop halted", _halt, _nothing),
)


async def minute(scene: Scene, number: int) -> Minute:
    """One of them, with a reload, a revocation, a fault, and a rotation every ``ROTATES``."""
    name, begin, end = FAULTS[number % len(FAULTS)]
    await scene.revoke()
    if number % ROTATES == 0:
        await scene.rotate()
        await scene.verifier.until_status(scene.issuer.token("first"), 200)
    async with scene.stage.load(scene.verifier, scene.streams(), MINUTE - 2, connections=128) as load:
        await asyncio.sleep(MINUTE / 3)
        await begin(scene)
        await asyncio.sleep(SICK)
        await end(scene)
        await asyncio.sleep(MINUTE / 4)
        await scene.reload(number)
        answers = await load.answers()
    for file in scene.stage.folder.glob("*-answers"):
        file.unlink()
    return _seen(name, answers, scene.verifier)


def _seen(fault: str, answers: Answers, verifier: Verifier) -> Minute:
    good = answers.of("known", "new", "opaque")
    return Minute(
        fault=fault,
        requests=len(answers),
        p50=good.percentile(0.5),
        p99=good.p99,
        memory=verifier.process.memory().now,
        descriptors=verifier.descriptors(),
        wrong_allows=answers.wrong_allows,
        client_errors=answers.errors(undecided_is_right=True),
        refused=len(good) - len(good.with_status(200)),
    )


def slope(values: Sequence[float]) -> float:
    """By least squares: how much is added with each of them; 0 where there are too few to tell."""
    number = len(values)
    if number < 2:
        return 0.0
    middle, mean = (number - 1) / 2, sum(values) / number
    spread = sum((place - middle) ** 2 for place in range(number))
    return sum((place - middle) * (value - mean) for place, value in enumerate(values)) / spread


def slopes(minutes: Sequence[Minute]) -> dict[str, float]:
    """An hour's worth: bytes, descriptors and milliseconds."""
    warm = minutes[WARM:]
    return {
        "memory": 60 * slope([one.memory for one in warm]),
        "descriptors": 60 * slope([one.descriptors for one in warm]),
        "p99": 60 * slope([one.p99 for one in warm]),
    }


def page(minutes: Sequence[Minute], about: dict[str, Any]) -> str:
    found = slopes(minutes)
    lines = [
        f"# Soak, {about['event_loop']}",
        "",
        f"{len(minutes)} minutes on {about['date']}, {about['cpu']} with {about['cores']} cores; "
        f"{', '.join(f'{name} {version}' for name, version in about['versions'].items())}.",
        "",
        f"Known, new, expired, forged, opaque and revoked tokens; keys rotate every {ROTATES} minutes; each minute has "
        f"a reload, a revocation and {SICK:g} s of a fault. Slopes are by least squares, without the first {WARM}.",
        "",
        f"**{sum(one.wrong_allows for one in minutes)} wrong allows, {sum(one.client_errors for one in minutes)} "
        f"answers of 5xx but 503** among {sum(one.requests for one in minutes):,} requests.",
        "",
        "| Slope in an hour | |",
        "|---|---|",
        f"| memory | {found['memory'] / 2**20:+.1f} MB |",
        f"| descriptors | {found['descriptors']:+.1f} |",
        f"| p99 of good tokens | {found['p99']:+.1f} ms |",
        "",
        f"![Memory, descriptors and p99 by minute](soak-{about['event_loop']}.png)",
        "",
        "| Minute | Fault | Requests | Good ones not allowed | p50 | p99 | Memory | Descriptors |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {place} | {one.fault} | {one.requests:,} | {one.refused} | {one.p50:.1f} ms | {one.p99:.1f} ms | "
            f"{one.memory / 2**20:.1f} MB | {one.descriptors} |"
            for place, one in enumerate(minutes, 1)
        ),
    ]
    return "\n".join(lines) + "\n"


def draw(minutes: Sequence[Minute], file: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - of the group bench

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - likewise

    shown: dict[str, list[float]] = {
        "memory, MB": [one.memory / 2**20 for one in minutes],
        "descriptors": [float(one.descriptors) for one in minutes],
        "p99, ms": [one.p99 for one in minutes],
    }
    figure, axes = plt.subplots(len(shown), 1, figsize=(7, 4.5), sharex=True, layout="constrained")
    for axis, (name, values) in zip(axes, shown.items(), strict=True):
        axis.plot(range(1, len(values) + 1), values, color="#1f6feb", marker=".")
        axis.set_ylabel(name, fontsize=8)
        axis.set_ylim(bottom=0)
        axis.grid(visible=True, color="#d0d7de", linewidth=0.5)
    axes[-1].set_xlabel("minute", fontsize=8)
    figure.savefig(file, dpi=140)
    plt.close(figure)


async def soak(number: int, loop: str) -> list[Minute]:
    mine = cores()
    os.sched_setaffinity(0, mine.load)
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="verifier-soak-"))
        stage = Stage(Path(folder), mine, http, loop)
        redis = stack.enter_context(redis_server())
        issuer = await stack.enter_async_context(stage.issuer())
        asked = await stack.enter_async_context(stage.issuer("asked"))
        made = stage.configuration(
            stage.trust(issuer),
            stage.ask(asked),
            redis={"url": redis.url, "key_file": stage.sealing_key()},
            cache={"max_entries": 2_000, "share": "always"},
            keys={"refresh": "20s", "unknown_kid_cooldown": "1s", "max_stale": "10m"},
        )
        verifier = await stack.enter_async_context(stage.verifier(made))
        scene = Scene(stage, issuer, asked, verifier, redis)
        minutes: list[Minute] = []
        for place in range(number):
            minutes.append(await minute(scene, place))
            one = minutes[-1]
            print(
                f"{place + 1:>4}  {one.fault}: {one.requests:,} requests, p99 {one.p99:.1f} ms, "
                f"{one.memory / 2**20:.1f} MB, {one.descriptors} descriptors, {one.refused} good ones not allowed",
                flush=True,
            )
        return minutes


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    arguments.add_argument("--minutes", type=int, default=10)
    arguments.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="of the verifier")
    given = arguments.parse_args()
    minutes = asyncio.run(soak(given.minutes, given.loop))
    known = {name: version for name, version in versions().items() if name in SHOWN}
    date = time.strftime("%Y-%m-%d", time.gmtime())
    about: dict[str, Any] = {**description(), "event_loop": given.loop, "date": date, "versions": known}
    begin = RESULTS / f"soak-{given.loop}"
    begin.with_suffix(".md").write_text(page(minutes, about), "utf-8")
    written = {"about": about, "slopes": slopes(minutes), "minutes": [asdict(one) for one in minutes]}
    begin.with_suffix(".json").write_text(json.dumps(written, indent=1) + "\n", "utf-8")
    draw(minutes, begin.with_suffix(".png"))
    print(f"written: {begin}.md")
    if any(one.wrong_allows or one.client_errors for one in minutes):
        sys.exit(1)


if __name__ == "__main__":
    main()
