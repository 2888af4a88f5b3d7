import asyncio
import secrets
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client.samples import Exemplar, Sample

from tests.support import AUD, Client, FakeIssuer, eventually, opaque_issuer, serve, settings
from verifier.observability.metrics import Metrics, exposition


async def test_cache_lookups_and_entries_are_counted(client: Client, issuer: FakeIssuer) -> None:
    token = issuer.token("EdDSA")
    for _ in range(3):
        await client.verify(token)
    assert await client.metric("verifier_cache_lookups_total", kind="identity", tier="memory", result="hit") == 2
    assert await client.metric("verifier_cache_entries", kind="identity", tier="memory") == 1


async def test_key_sets_have_an_age_and_a_number_of_keys(client: Client, issuer: FakeIssuer) -> None:
    await client.verify(issuer.token("EdDSA"))
    assert 0 <= await client.metric("verifier_key_set_age_seconds", issuer="main") < 5
    assert await client.metric("verifier_key_set_keys", issuer="main") == 1
    assert await client.metric("verifier_key_fetches_total", issuer="main", result="ok") == 1


async def test_decisions_have_a_duration_by_surface(client: Client) -> None:
    await client.verify()
    assert await client.metric("verifier_decision_seconds_count", surface="verify") == 1


async def test_keys_say_when_they_were_fetched_and_how_often_they_are_to_be(client: Client, issuer: FakeIssuer) -> None:
    await client.verify(issuer.token("EdDSA"))
    fetched = await client.metric("verifier_key_last_success_timestamp_seconds", issuer="main")
    assert fetched == pytest.approx(time.time(), abs=60)
    assert await client.metric("verifier_key_refresh_interval_seconds", issuer="main") == 600
    assert 'verifier_key_set_stale{issuer="main"} 0.0' in (await client.ops("/metrics")).text


async def test_keys_that_cannot_be_fetched_again_are_stale(issuer: FakeIssuer) -> None:
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    async with serve(settings(main, keys={"refresh": "1s", "unknown_kid_cooldown": "1s"})) as client:
        assert (await client.verify(issuer.token("EdDSA"))).status == 200
        issuer.fault = lambda _: web.Response(status=500)

        async def is_stale() -> bool:
            return await client.metric("verifier_key_set_stale", issuer="main") == 1

        await eventually(is_stale)
        assert (await client.verify(issuer.token("EdDSA"))).status == 200


async def test_keys_that_never_came_have_a_time_that_is_long_ago() -> None:
    async with serve(settings({"name": "main", "issuer": "http://127.0.0.1:1", "audiences": [AUD]})) as client:
        text = (await client.ops("/metrics")).text
    assert 'verifier_key_last_success_timestamp_seconds{issuer="main"} 0.0' in text
    assert 'verifier_key_set_age_seconds{issuer="main"} NaN' in text


async def test_a_cache_has_a_capacity_and_counts_who_must_leave_for_want_of_room(issuer: FakeIssuer) -> None:
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    async with serve(settings(main, cache={"max_entries": 10})) as client:
        for number in range(12):
            await client.verify(issuer.token("EdDSA", sub=str(number)))
        where = {"kind": "identity", "tier": "memory"}
        assert await client.metric("verifier_cache_capacity", **where) == 11
        assert await client.metric("verifier_cache_entries", **where) == 10
        assert await client.metric("verifier_cache_evictions_total", **where) == 2


async def test_what_waits_for_an_issuer_is_in_flight_until_it_is_answered(
    issuer: FakeIssuer, secret_file: Path
) -> None:
    gate = asyncio.Event()

    async def hold(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return await issuer.usual(request)

    issuer.fault = hold
    asked = opaque_issuer("slow", f"{issuer.url}/introspect", secret_file)
    async with serve(settings(asked)) as client:
        asking = asyncio.create_task(client.verify(secrets.token_urlsafe()))
        await eventually(lambda: issuer.requests)

        async def under_way() -> list[float]:
            return [
                await client.metric("verifier_requests_in_flight"),
                await client.metric("verifier_decisions_waiting", issuer="slow"),
                await client.metric("verifier_introspections_in_flight", issuer="slow"),
            ]

        assert await under_way() == [1, 1, 1]
        gate.set()
        await asking
        assert await under_way() == [0, 0, 0]


async def test_what_is_answered_at_once_is_never_in_flight(client: Client, issuer: FakeIssuer) -> None:
    """And the ops port's own requests are not the data port's."""
    await client.verify(issuer.token("EdDSA"))
    assert "verifier_requests_in_flight 0.0" in (await client.ops("/metrics")).text


async def long_delays(client: Client) -> float:
    """How many times a loop was late by more than a quarter of a second."""
    found = {(sample.name, sample.labels.get("le")): sample.value for sample in await client.open_metrics()}
    delay = "verifier_event_loop_delay_seconds"
    return found[f"{delay}_count", None] - found[f"{delay}_bucket", "0.25"]


async def test_a_loop_that_stands_still_is_seen(client: Client) -> None:
    time.sleep(0.5)  # noqa: ASYNC251 - that is the point

    await eventually(lambda: long_delays(client))


async def test_it_is_ready_when_readyz_says_so(client: Client, issuer: FakeIssuer) -> None:
    await client.verify(issuer.token("EdDSA"))
    assert (await client.ops("/readyz")).status == 200
    assert await client.metric("verifier_ready") == 1


async def test_it_is_not_ready_when_readyz_says_so() -> None:
    async with serve(settings({"name": "main", "issuer": "http://127.0.0.1:1", "audiences": [AUD]})) as client:
        assert (await client.ops("/readyz")).status == 503
        assert "verifier_ready 0.0" in (await client.ops("/metrics")).text


def traceparent(trace_id: str, flags: str) -> str:
    return f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"


async def with_exemplars(client: Client) -> list[Sample]:
    return [sample for sample in await client.open_metrics() if sample.exemplar is not None]


async def exemplars(client: Client) -> list[Exemplar]:
    return [sample.exemplar for sample in await with_exemplars(client) if sample.exemplar is not None]


ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/verify", {}),
    ("/verify", {"json": {"token": "x"}}),
    ("/auth-request", {"headers": {"X-Original-Method": "GET", "X-Original-URL": "http://a/"}}),
]


@pytest.mark.parametrize(("path", "request_"), ASKED, ids=["shortcut", "body", "gateway"])
async def test_a_sampled_trace_is_the_exemplar_of_its_bucket(
    path: str, request_: dict[str, Any], client: Client
) -> None:
    trace_id = secrets.token_hex(16)
    headers = {**request_.get("headers", {}), "traceparent": traceparent(trace_id, "01")}
    method = "POST" if "json" in request_ else "GET"
    await (await client.http.request(method, client.url + path, **{**request_, "headers": headers})).read()
    (found,) = await exemplars(client)
    assert found.labels == {"trace_id": trace_id}
    assert 0 < found.value < 60
    assert float(found.timestamp or 0) == pytest.approx(time.time(), abs=60)


async def test_there_is_one_exemplar_for_each_bucket_of_a_surface_at_most(client: Client) -> None:
    for _ in range(30):
        await client.verify("x", traceparent=traceparent(secrets.token_hex(16), "01"))
    samples = await with_exemplars(client)
    assert {sample.name for sample in samples} == {"verifier_decision_seconds_bucket"}
    buckets = [sample.labels["le"] for sample in samples]
    assert len(set(buckets)) == len(buckets) < 30


@pytest.mark.parametrize(
    "value",
    [traceparent("0" * 32, "01"), traceparent(secrets.token_hex(16), "00"), "made up", ""],
    ids=["no trace", "not sampled", "no traceparent", "empty"],
)
async def test_what_leads_to_no_trace_is_no_exemplar(value: str, client: Client) -> None:
    """One that does not exist, one that nobody keeps, and what is none."""
    await client.verify("x", traceparent=value)
    assert await client.metric("verifier_decision_seconds_count", surface="verify") == 1
    assert await exemplars(client) == []


async def test_the_older_format_has_no_exemplars(client: Client) -> None:
    await client.verify("x", traceparent=traceparent(secrets.token_hex(16), "01"))
    assert "trace_id" not in (await client.ops("/metrics")).text


async def test_the_format_is_negotiated(client: Client) -> None:
    plain = await client.ops("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain")
    body, kind = exposition(Metrics().registry.collect(), "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


async def test_one_process_is_one_worker(client: Client) -> None:
    assert await client.metric("verifier_workers") == 1
    assert await client.metric("verifier_worker_restarts_total") == 0


async def test_probes_answer(client: Client) -> None:
    alive = await client.ops("/healthz")
    assert (alive.status, alive.json) == (200, {"status": "alive"})
    assert (await client.ops("/nothing")).status == 404
