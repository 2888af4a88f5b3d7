"""Names that do not resolve, and certificates that do not hold (F33, F34)."""

import asyncio
import os
import shutil
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests import tls
from tests.faults.answers import said
from tests.faults.outcome import NotRun, Record, fault
from tests.faults.stage import IssuerProcess, Stage, Verifier, seconds
from tests.redis_servers import Line

RATE = 200.0
NAME = "idp.test"
DNS = "127.0.0.77"


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Answers A questions with ``address``; with 3 (no such name) where that is empty; not at all while ``silent``."""

    address: str = "127.0.0.1"
    silent: bool = False
    transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.silent or self.transport is None:
            return
        end = data.index(b"\0", 12) + 5
        is_a = data[end - 4 : end - 2] == b"\0\1"
        answers = 1 if self.address and is_a else 0
        flags = 0x8180 if self.address else 0x8183
        head = data[:2] + struct.pack(">HHHHH", flags, 1, answers, 0, 0)
        record = struct.pack(">HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(self.address) if answers else b""
        self.transport.sendto(head + data[12:end] + record, addr)


@fault(
    "F33",
    "the issuer's name does not resolve",
    did="NXDOMAIN for 12 s, then 5 s of a name server that never answers; then the issuer at another address",
    right="known keys serve and the loop does not wait for the resolver; the new address is found at the next fetch",
)
async def names(stage: Stage, record: Record) -> None:
    if os.geteuid() or shutil.which("unshare") is None:
        raise NotRun("a name server of one's own takes root and unshare")
    loop = asyncio.get_running_loop()
    try:
        _, server = await loop.create_datagram_endpoint(NameServer, local_addr=(DNS, 53))
    except OSError as error:
        raise NotRun(f"port 53 of {DNS} cannot be had: {error.strerror}") from None
    resolv = stage.path("resolv.conf", f"nameserver {DNS}\noptions timeout:3 attempts:1\n")
    # A mount that only this process sees.
    mounted = f'mount --bind {resolv} /etc/resolv.conf && exec "$0" "$@"'
    try:
        async with stage.issuer() as issuer:
            port = int(issuer.url.rpartition(":")[2])
            trusted = stage.trust(issuer, jwks_uri=f"http://{NAME}:{port}/jwks", allow_insecure_http=True)
            made = stage.configuration(trusted, keys={"refresh": "1s", "unknown_kid_cooldown": "1s", "deadline": "2s"})
            async with stage.verifier(made, ["unshare", "-m", "sh", "-c", mounted]) as verifier:
                async with stage.load(verifier, [stage.good(issuer, RATE)], 19) as load:
                    await asyncio.sleep(1)
                    server.address = ""
                    await asyncio.sleep(12)  # what was resolved is kept for ten seconds
                    missing = await verifier.metric("key_fetches_total", issuer="main", result="error")
                    server.silent = True
                    answers = await load.answers()
                errors = await verifier.metric("key_fetches_total", issuer="main", result="error")
                elsewhere = Line(port, port, "127.0.0.2")
                elsewhere.open.set()
                await elsewhere.mend()
                server.silent, server.address = False, "127.0.0.2"
                back = await verifier.until("key_set_age_seconds", lambda age: age < 1, within=20, issuer="main")
                await elsewhere.cut()
    finally:
        if server.transport is not None:
            server.transport.close()
    record.saw(answers)
    record.note(f"good tokens {answers.share(200):.2%}, p99 {answers.p99:.1f} ms, longest {answers.longest:.0f} ms")
    record.note(f"failed fetches {missing:.0f} without the name and {errors - missing:.0f} without an answer")
    record.note(f"keys fetched from the new address {seconds(back)} after the name resolves to it")
    record.expect(answers.share(200) == 1.0, f"good tokens got {said(answers.statuses)}")
    record.expect(0 < missing < errors, "failures are not in the metrics")
    record.expect(back is not None, "keys were not fetched again within 20 s")


@fault(
    "F34",
    "the issuer's certificate does not hold",
    did="expired, of another name, of an unknown authority, TLS 1.1 only, one after another, with `max_stale` 3 s",
    right="each fetch is refused; keys serve until `max_stale`, then 503; well when the certificate is",
)
async def certificates(stage: Stage, record: Record) -> None:
    ours, theirs = tls.authority(), tls.authority()
    authorities = stage.path("ca.pem", ours.pem.decode())
    good = _context(stage, tls.certificate(ours, "localhost"))
    bad = {
        "expired": _context(stage, tls.certificate(ours, "localhost", days=-1 / 1_440)),
        "another name": _context(stage, tls.certificate(ours, "other.test")),
        "unknown authority": _context(stage, tls.certificate(theirs, "localhost")),
        "TLS 1.1": _context(stage, tls.certificate(ours, "localhost"), newest=ssl.TLSVersion.TLSv1_1),
    }
    async with stage.issuer() as issuer:
        line = Line(int(issuer.url.rpartition(":")[2]), tls=good)
        line.open.set()
        await line.mend()
        try:
            trusted = stage.trust(issuer, jwks_uri=f"https://localhost:{line.port}/jwks", ca_file=str(authorities))
            keys = {"refresh": "1s", "max_stale": "3s", "unknown_kid_cooldown": "1s", "deadline": "1s"}
            async with (
                stage.verifier(stage.configuration(trusted, keys=keys)) as verifier,
                stage.load(verifier, [stage.good(issuer, RATE)], 60) as load,
            ):
                for name, context in bad.items():
                    await _change_to(line, context)
                    fetched = await _stopped(verifier, issuer, record, name)
                    record.expect(not fetched, f"{name}: keys were fetched")
                    await _change_to(line, good)
                    back = await verifier.until_status(issuer.token("back"), 200, within=8)
                    record.note(f"well {seconds(back)} later")
                    record.expect(back is not None, f"{name}: no recovery within 8 s")
                answers = await load.stop()
        finally:
            await line.cut()
    record.saw(answers)
    wrong = {status: number for status, number in answers.statuses.items() if status not in {200, 503}}
    record.note(f"load: {said(answers.statuses)}")
    record.expect(not wrong, "good tokens got something else than 200 and 503")


async def _change_to(line: Line, context: ssl.SSLContext) -> None:
    await line.cut()
    line.tls = context
    await line.mend()


async def _stopped(verifier: Verifier, issuer: IssuerProcess, record: Record, name: str) -> list[float]:
    """Waits until the keys are too old. When they were fetched meanwhile."""
    began = time.monotonic()
    stopped = await verifier.until_status(issuer.token("stale"), 503, within=8)
    fetched = await issuer.asked(since=began + 0.2)
    record.note(f"{name}: 503 after {seconds(stopped)}, {len(fetched)} fetches came through")
    record.expect(stopped is not None, f"{name}: keys were used for longer than max_stale")
    return fetched


def _context(stage: Stage, pem: bytes, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if newest is not None:
        context.minimum_version = context.maximum_version = newest
        context.set_ciphers("ALL:@SECLEVEL=0")
    file: Path = stage.path("certificate.pem", pem.decode())
    context.load_cert_chain(file)
    return context
