"""What a real collector gets from a service of several processes."""

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.app.processes import program
from tests.e2e.gateways import programs
from tests.e2e.gateways.build import GO_OF_COLLECTOR
from tests.support import AUD, FakeIssuer, eventually, free_port

pytestmark = pytest.mark.e2e


@asynccontextmanager
async def collector(folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """One that takes spans over HTTP; its address, and the file that it writes them into."""
    found = programs.require("otelcol", "make collector, or get a release of OpenTelemetry's", GO_OF_COLLECTOR)
    address, spans = f"127.0.0.1:{free_port()}", folder / "spans.json"
    config = folder / "collector.json"
    made: dict[str, Any] = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": address}}}},
        "exporters": {"file": {"path": str(spans), "flush_interval": "100ms"}},
        "service": {
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
    config.write_text(json.dumps(made))
    log = (folder / "collector.log").open("wb")
    process = await asyncio.create_subprocess_exec(found, "--config", config, stdout=log, stderr=log)
    try:
        await eventually(lambda: _listens(address), within=20)
        yield f"http://{address}", spans
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()
        log.close()


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


def taken(file: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each span, with what it is the service's."""
    for line in file.read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            service = said(resource["resource"])
            for scope in resource["scopeSpans"]:
                yield from ((span, service) for span in scope["spans"])


def said(attributed: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in attributed.get("attributes", ())}


async def test_a_collector_gets_the_spans_of_all_workers_and_no_token(
    issuer: FakeIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of them when the service stops."""
    trace, marker = secrets.token_hex(16), f"m4rk3r{secrets.token_hex(4)}"
    token = issuer.token("EdDSA", sub=marker)
    config = {
        "workers": 2,
        "listen": "127.0.0.1:0",
        "ops": {"listen": "127.0.0.1:0"},
        "issuers": [{"name": "main", "issuer": issuer.url, "audiences": [AUD]}],
    }
    async with collector(tmp_path) as (endpoint, file):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # so that nothing is exported but at the end
        connector = aiohttp.TCPConnector(force_close=True)
        async with program(config, tmp_path) as service, aiohttp.ClientSession(connector=connector) as http:
            headers = {"Authorization": f"Bearer {token}", "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
            for _ in range(32):  # connections are dealt out among the workers
                async with http.get(f"http://{service.address}/verify?{marker}", headers=headers) as answer:
                    assert answer.status == 200
            os.kill(service.process.pid, signal.SIGTERM)
            assert await service.process.wait() == 0
        await eventually(lambda: sum(span["name"] == "verifier.decide" for span, _ in taken(file)) == 32)
    spans = [*taken(file)]
    decided = [(said(span), service) for span, service in spans if span["name"] == "verifier.decide"]
    assert {span["traceId"] for span, _ in spans if span["name"] == "verifier.decide"} == {trace}
    assert {(about["verifier.surface"], about["verifier.outcome"]) for about, _ in decided} == {("verify", "allow")}
    assert {(service["service.name"], service["verifier.worker"]) for _, service in decided} == {
        ("edge", "1"),
        ("edge", "2"),
    }
    assert len({service["service.instance.id"] for _, service in decided}) == 2
    assert marker not in file.read_text()
    assert token not in file.read_text()
