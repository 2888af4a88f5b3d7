"""The verifier's memory, empty and with 100,000 identities, and how long it takes to get ready."""

import tempfile
import time
from pathlib import Path

from benchmarks.suite.latency import ask_each_once
from benchmarks.suite.machine import Cores
from benchmarks.suite.results import Identities
from benchmarks.suite.row import Place, Row, check
from benchmarks.suite.servers import verifier
from benchmarks.suite.throughput import check_hits
from benchmarks.suite.tokens import Mint, Tokens

IDENTITIES = 100_000


def identities(mint: Mint, cores: Cores) -> Identities:
    """Each token is asked about three times: verified, found, and given the answer that is kept from then on. The last
    time, all must be found."""
    tokens = mint.make("EdDSA", IDENTITIES)
    row = Row("memory", "memory", "memory", "EdDSA", verifier.cached(), hits="all")
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), cores)
        with row.serve(place, tokens) as running:
            process = running.processes["verifier"]
            check(row, running, tokens)
            empty = process.memory().now
            for _ in range(2):
                ask_each_once(row, place, running, tokens.file, IDENTITIES)
            before = running.hits()
            ask_each_once(row, place, running, tokens.file, IDENTITIES)
            check_hits(row, (running.hits() - before) / IDENTITIES)
            return Identities(IDENTITIES, empty, process.memory().now)


def seconds_until_ready(tokens: Tokens, cores: Cores) -> float:
    with tempfile.TemporaryDirectory() as folder:
        made = verifier.configuration(tokens)
        began = time.perf_counter()
        process = verifier.start(Place(Path(folder), cores), made, [cores.server])
        try:
            verifier.wait_until_ready(process, verifier.port_of(made["ops"]["listen"]))
            return time.perf_counter() - began
        finally:
            process.stop()
