"""Spans of a whole service: what they say, how they hang together, and what no span may hold."""

import asyncio
import json
import secrets
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.trace import SpanKind, StatusCode

from tests import grpc_check
from tests.aws_events import http_2
from tests.redis_servers import RedisServer
from tests.support import (
    AUD,
    Client,
    FakeIssuer,
    eventually,
    free_port,
    opaque_issuer,
    private_key,
    serve,
    settings,
    sign,
)
from tests.support import claims as good_claims
from tests.tracing import DECIDE, FETCH, INTROSPECT, WAIT, Spans, about, linked, number, trace, traced, written
from verifier.observability.tracing import Tracing

TRACE, PARENT = secrets.token_hex(16), secrets.token_hex(8)
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
ROUTES = [{"path": "/admin", "scopes": ["admin"]}]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    with traced(monkeypatch) as made:
        yield made


@pytest.fixture
async def client(spans: Spans, issuer: FakeIssuer) -> AsyncIterator[Client]:
    """Its keys are there."""
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    async with serve(settings(main, routes=ROUTES, keys={"unknown_kid_cooldown": "1s"})) as made:
        await eventually(lambda: spans.of(FETCH))
        yield made


async def test_an_allow_is_a_span_of_the_server(spans: Spans, client: Client, issuer: FakeIssuer) -> None:
    await client.verify(issuer.token("EdDSA"))
    span = spans.one(DECIDE)
    assert (span.kind, span.status.status_code) == (SpanKind.SERVER, StatusCode.UNSET)
    assert about(span) == {
        "verifier.surface": "verify",
        "verifier.outcome": "allow",
        "verifier.issuer": "main",
    }


async def test_a_token_that_was_found_says_where(spans: Spans, client: Client, issuer: FakeIssuer) -> None:
    token = issuer.token("EdDSA")
    await client.verify(token)
    await client.verify(token)
    assert [about(span).get("verifier.cache.tier") for span in spans.of(DECIDE)] == [None, "memory"]


async def test_a_token_found_by_the_surface_of_a_gateway_says_where_too(
    spans: Spans, client: Client, issuer: FakeIssuer
) -> None:
    token = issuer.token("EdDSA")
    await client.verify(token)
    await client.get("/ext-authz/pets", Authorization=f"Bearer {token}")
    assert about(spans.one(DECIDE, surface="ext_authz"))["verifier.cache.tier"] == "memory"


async def test_a_denial_has_its_reason_and_is_no_error(spans: Spans, client: Client, issuer: FakeIssuer) -> None:
    await client.verify(issuer.token("EdDSA", exp=1))
    span = spans.one(DECIDE, outcome="deny")
    assert about(span)["verifier.reason"] == "expired"
    assert span.status.status_code is StatusCode.UNSET


async def test_what_cannot_be_decided_is_an_error(spans: Spans) -> None:
    down = {"name": "down", "issuer": f"http://127.0.0.1:{free_port()}", "audiences": [AUD]}
    async with serve(settings(down)) as client:
        await eventually(lambda: spans.of(FETCH))
        await client.verify(sign(good_claims(iss=down["issuer"]), private_key("EdDSA"), "EdDSA"))
    span = spans.one(DECIDE)
    assert about(span)["verifier.outcome"] == "undecided"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "keys_unavailable")


async def test_several_questions_at_once_are_events_of_one_span(
    spans: Spans, client: Client, issuer: FakeIssuer
) -> None:
    asked = [{"token": issuer.token("EdDSA")}, {"token": "nonsense"}]
    await client.post("/verify/batch", json={"requests": asked})
    span = spans.one(DECIDE)
    assert about(span)["verifier.decisions"] == 2
    outcomes = [dict(event.attributes or {})["verifier.outcome"] for event in span.events]
    assert (outcomes, {event.name for event in span.events}) == (["allow", "deny"], {"verifier.decision"})


@pytest.mark.parametrize("path", ["/verify", "/ext-authz/pets"])
async def test_a_decision_belongs_to_the_trace_of_its_request(
    spans: Spans, client: Client, issuer: FakeIssuer, path: str
) -> None:
    await client.get(path, Authorization=f"Bearer {issuer.token('EdDSA')}", traceparent=SAMPLED)
    span = spans.one(DECIDE)
    assert span.parent is not None
    assert (trace(span), f"{span.parent.span_id:016x}") == (TRACE, PARENT)


async def test_a_trace_that_is_not_recorded_is_not_recorded_here(
    spans: Spans, client: Client, issuer: FakeIssuer
) -> None:
    await client.verify(issuer.token("EdDSA"), traceparent=UNSAMPLED)
    assert spans.of(DECIDE) == []


async def test_a_request_s_trace_is_not_followed_where_the_propagators_leave_it_out(
    monkeypatch: pytest.MonkeyPatch, issuer: FakeIssuer
) -> None:
    with traced(monkeypatch, OTEL_PROPAGATORS="none") as spans:
        async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
            await client.verify(traceparent=UNSAMPLED)
    span = spans.one(DECIDE)
    assert (span.parent, trace(span) == TRACE) == (None, False)


@pytest.mark.parametrize("path", ["/verify", "/ext-authz/pets"])
async def test_the_log_names_the_trace_of_the_span(spans: Spans, client: Client, path: str) -> None:
    await client.get(path, Authorization="Bearer nonsense")
    (line,) = [line for line in client.log() if line["event"] == "deny"]
    assert line["trace_id"] == trace(spans.one(DECIDE))


@pytest.mark.parametrize("path", ["/verify", "/ext-authz/pets"])
async def test_the_log_names_the_trace_of_the_request(spans: Spans, client: Client, path: str) -> None:
    await client.get(path, Authorization="Bearer nonsense", traceparent=SAMPLED)
    (line,) = [line for line in client.log() if line["event"] == "deny"]
    assert line["trace_id"] == TRACE


async def rotated(client: Client, issuer: FakeIssuer) -> str:
    """A token of a key that is new since the last fetch."""
    issuer.keys = [private_key("EdDSA", "k2", 2)]
    await asyncio.sleep(1.05)  # the cooldown, so that a fetch is permitted
    return issuer.token("EdDSA")


async def test_a_fetch_of_keys_is_a_trace_of_its_own_with_its_requests(
    spans: Spans, client: Client, issuer: FakeIssuer
) -> None:
    span = spans.one(FETCH)
    requests = [one for one in spans.of("GET") if one.parent is not None and one.parent.span_id == number(span)]
    assert (span.parent, about(span)) == (None, {"verifier.issuer": "main", "verifier.result": "ok"})
    assert [about(one)["http.response.status_code"] for one in requests] == [200, 200]
    assert {one.kind for one in requests} == {SpanKind.CLIENT}


async def test_a_decision_that_waits_for_keys_and_their_fetch_have_links_to_each_other(
    spans: Spans, client: Client, issuer: FakeIssuer
) -> None:
    await client.verify(await rotated(client, issuer))
    wait, fetch = spans.one(WAIT, wait_for="keys"), spans.of(FETCH)[-1]
    decision = spans.one(DECIDE)
    assert wait.parent is not None
    assert wait.parent.span_id == number(decision)
    assert (linked(wait), linked(fetch)) == ({number(fetch)}, {number(wait)})


async def test_the_fetch_that_a_recorded_decision_waits_for_is_recorded_whatever_the_sampler_says(
    monkeypatch: pytest.MonkeyPatch, issuer: FakeIssuer
) -> None:
    with traced(monkeypatch, OTEL_TRACES_SAMPLER="parentbased_always_off") as spans:
        main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
        async with serve(settings(main, keys={"unknown_kid_cooldown": "1s"})) as client:
            await eventually(lambda: issuer.key_fetches)
            await client.verify(await rotated(client, issuer), traceparent=SAMPLED)
    assert linked(spans.one(FETCH)) == {number(spans.one(WAIT))}


async def test_a_fetch_that_fails_has_the_status_of_the_answer(spans: Spans, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _request: web.Response(status=503)
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})):
        await eventually(lambda: spans.of(FETCH))
    span = spans.of(FETCH)[0]
    assert (about(span)["verifier.result"], about(span)["error.type"]) == ("error", "503")
    assert [sorted(event.attributes or {}) for event in span.events] == [["exception.type", "verifier.where"]]
    assert span.status.status_code is StatusCode.ERROR


async def test_a_question_about_a_token_belongs_to_the_decision_that_asked(
    spans: Spans, issuer: FakeIssuer, secret_file: Path
) -> None:
    async with serve(settings(opaque_issuer("asked", f"{issuer.url}/introspect", secret_file))) as client:
        await client.verify(issuer.opaque("opaque", iss="https://asked.example"))
    span, wait = spans.one(INTROSPECT), spans.one(WAIT)
    assert span.parent is not None
    assert span.parent.span_id == number(wait)
    assert about(span) == {"verifier.issuer": "asked", "verifier.result": "active"}
    assert about(spans.one("POST"))["http.response.status_code"] == 200


async def test_a_question_of_a_decision_that_is_not_recorded_is_not_recorded(
    spans: Spans, issuer: FakeIssuer, secret_file: Path
) -> None:
    async with serve(settings(opaque_issuer("asked", f"{issuer.url}/introspect", secret_file))) as client:
        await client.verify(issuer.opaque("opaque", iss="https://asked.example"), traceparent=UNSAMPLED)
    assert (issuer.introspections, spans.all()) == (1, ())


async def test_decisions_that_wait_for_one_answer_have_links_to_it(
    spans: Spans, issuer: FakeIssuer, secret_file: Path
) -> None:
    gate = asyncio.Event()

    async def held(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return await issuer.usual(request)

    issuer.fault = held
    token = issuer.opaque("opaque", iss="https://asked.example")
    async with serve(settings(opaque_issuer("asked", f"{issuer.url}/introspect", secret_file))) as client:
        asking = [asyncio.create_task(client.verify(token)) for _ in range(3)]
        await eventually(lambda: issuer.requests)
        await asyncio.sleep(0.1)  # so that the others wait too
        gate.set()
        await asyncio.gather(*asking)
    span = spans.one(INTROSPECT)
    others = [wait for wait in spans.of(WAIT) if span.parent and number(wait) != span.parent.span_id]
    assert linked(span) == {number(wait) for wait in others}
    assert [linked(wait) for wait in others] == [{number(span)}] * 2


@pytest.fixture
def shared(redis: RedisServer, key_file: Path) -> dict[str, Any]:
    return {"redis": {"url": redis.url, "key_file": str(key_file), "timeout": "500ms"}, "cache": {"share": "always"}}


async def test_commands_that_a_decision_waits_for_are_spans(
    spans: Spans, issuer: FakeIssuer, shared: dict[str, Any]
) -> None:
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]}, **shared)) as client:
        await eventually(lambda: issuer.key_fetches)
        await client.verify(issuer.token("EdDSA"))
    wait = spans.one(WAIT, wait_for="shared")
    (command,) = [one for one in spans.of("redis mget") if one.parent and one.parent.span_id == number(wait)]
    assert about(command) == {"db.system.name": "redis", "db.operation.name": "MGET"}
    assert command.start_time is not None
    assert command.end_time is not None
    assert command.start_time < command.end_time


async def test_following_revocations_makes_no_spans(spans: Spans, issuer: FakeIssuer, shared: dict[str, Any]) -> None:
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]}, **shared)) as client:
        await eventually(lambda: _has_read(client))
    assert {span.name for span in spans.all() if span.name.startswith("redis")} <= {
        "redis claim",
        "redis mget",
        "redis write",
    }


async def _has_read(client: Client) -> bool:
    return await client.metric("verifier_redis_seconds_count", command="exists") > 1


async def test_an_identity_of_another_replica_says_so(
    spans: Spans, issuer: FakeIssuer, redis: RedisServer, shared: dict[str, Any]
) -> None:
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    token = issuer.token("EdDSA")
    async with serve(settings(main, **shared)) as one, serve(settings(main, **shared)) as other:
        await eventually(lambda: other.metric("verifier_key_set_keys"))
        await eventually(lambda: _allows(one, token))
        await eventually(lambda: _holds_identities(redis))
        spans.exporter.clear()
        await other.verify(token)
    assert about(spans.one(DECIDE))["verifier.cache.tier"] == "shared"


def _holds_identities(redis: RedisServer) -> bool:
    with redis.admin() as admin:
        return any(admin.scan_iter("*:identity:*"))


async def _allows(client: Client, token: str) -> bool:
    return (await client.verify(token)).status == 200


async def test_issuers_are_told_nothing_of_a_trace(spans: Spans, client: Client, issuer: FakeIssuer) -> None:
    await client.verify(await rotated(client, issuer), traceparent=SAMPLED)
    sent = {name.lower() for request in issuer.requests for name in request.headers}
    assert sent & {"traceparent", "tracestate", "baggage"} == set()


async def test_a_defect_is_an_event_with_its_class_and_place(
    spans: Spans, client: Client, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("with a text that may hold anything")

    monkeypatch.setattr("verifier.engine.token.parse", broken)
    await client.verify(issuer.token("EdDSA"))
    (event,) = spans.one(DECIDE).events
    said = dict(event.attributes or {})
    assert (event.name, said["exception.type"], set(said)) == (
        "exception",
        "ZeroDivisionError",
        {"exception.type", "verifier.where"},
    )


@pytest.mark.parametrize("path", ["/verify", "/ext-authz/pets"])
@pytest.mark.parametrize("broken", ["begin", "decided"])
async def test_a_span_that_cannot_be_made_costs_no_decision(
    spans: Spans, client: Client, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch, broken: str, path: str
) -> None:
    def breaks(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Tracing, broken, breaks)
    assert (await client.get(path, Authorization=f"Bearer {issuer.token('EdDSA')}")).status == 200
    assert await client.metric("verifier_defects_total") == 1


async def test_no_span_holds_anything_of_a_token_or_a_request(
    spans: Spans, issuer: FakeIssuer, secret_file: Path, shared: dict[str, Any]
) -> None:
    """Markers stand wherever a caller can put something, through every surface, and in what Redis and an issuer get."""
    marker = f"m4rk3r{secrets.token_hex(4)}"
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    asked = opaque_issuer("asked", f"{issuer.url}/introspect?key={marker}", secret_file)
    made = settings(main, asked, routes=ROUTES, grpc={"listen": "127.0.0.1:0"}, **shared)
    signed = issuer.token("EdDSA", sub=marker, jti=marker, scope=marker, client_id=marker, other=marker)
    tokens = [signed, issuer.opaque(f"opaque-{marker}", iss="https://asked.example", sub=marker), f"bad.{marker}.x"]
    tokens += [issuer.token("EdDSA", exp=1, sub=marker), issuer.token("EdDSA", aud=marker), f"opaque-no-{marker}"]
    foreign = {"tracestate": f"a={marker}", "baggage": f"b={marker}", "X-Request-Id": marker, "User-Agent": marker}
    async with serve(made) as client:
        await eventually(lambda: _allows(client, signed))
        for token in tokens:
            headers = {"Authorization": f"Bearer {token}", "traceparent": SAMPLED, "Cookie": f"c={marker}", **foreign}
            original = {
                "X-Forwarded-Method": "GET",
                "X-Forwarded-Host": marker,
                "X-Forwarded-Uri": f"/{marker}?q={marker}",
            }
            nginx = {"X-Original-Method": "GET", "X-Original-URL": f"https://{marker}/{marker}?q={marker}"}
            await client.get(f"/verify?q={marker}", **headers)
            await client.get("/verify", **headers)
            await client.get("/forward-auth", **headers, **original)
            await client.get("/auth-request", **headers, **nginx)
            await client.get(f"/ext-authz/{marker}?q={marker}", **headers)
            body = {"token": token, "method": "GET", "host": marker, "path": f"/{marker}", "scopes": [marker]}
            await client.post("/verify", json=body, headers=foreign)
            await client.post("/verify/batch", json={"requests": [body, {"token": marker}]}, headers=foreign)
            await client.post("/verify", json={marker: marker}, headers=foreign)
            await client.post("/introspect", data={"token": token}, headers=foreign)
            await client.post("/aws/authorizer", json=http_2(f"Bearer {token}", "GET", f"/{marker}"), headers=foreign)
            await grpc_check.ask(client, token, f"/{marker}", ("tracestate", f"a={marker}"), ("traceparent", SAMPLED))
    surfaces = {about(span)["verifier.surface"] for span in spans.of(DECIDE)}
    assert len(surfaces) == 8
    assert [span.name for span in spans.all() if marker in written(span)] == []
    known = {"asked", "main", *(about(span).get("verifier.reason") for span in spans.all())}
    assert {about(span).get("verifier.issuer", "main") for span in spans.all()} <= known


async def test_an_exporter_that_is_gone_slows_no_decision_and_holds_no_stop(
    monkeypatch: pytest.MonkeyPatch, issuer: FakeIssuer
) -> None:
    """The real one. It would try for ten seconds; a stop gives it two."""
    token = issuer.token("EdDSA", sub="m4rk3r")
    async with silent() as endpoint:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
            await eventually(lambda: _allows(client, token))
            await asyncio.sleep(0.1)  # it is stuck by now
            assert {(await client.verify(token)).status for _ in range(50)} == {200}
            ending = monotonic()
        assert monotonic() - ending < 5.0
    assert [line["event"] for line in client.log()][-1] == "traces_lost"
    assert "m4rk3r" not in client.log_stream.getvalue()


class silent:  # noqa: N801 - reads as what it is
    """A server that takes connections and says nothing. Gives its address."""

    async def __aenter__(self) -> str:
        self._writers: list[asyncio.StreamWriter] = []
        self._server = await asyncio.start_server(lambda _reader, writer: self._writers.append(writer), "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_error: object) -> None:
        for writer in self._writers:
            writer.close()
        self._server.close()


async def test_an_exporter_that_is_refused_is_a_line_without_its_text(
    monkeypatch: pytest.MonkeyPatch, issuer: FakeIssuer
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}/m4rk3r")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
        await client.verify()
        await eventually(lambda: [line for line in client.log() if line["event"] == "library"])
    lines = [line for line in client.log() if line["event"] == "library"]
    assert {line["library"].partition(".")[0] for line in lines} == {"opentelemetry"}
    assert "m4rk3r" not in client.log_stream.getvalue()


def test_nothing_of_opentelemetry_is_imported_where_no_traces_are_asked_for(tmp_path: Path) -> None:
    """In a process of its own, which decides in every way."""
    script = """
        import asyncio, json, sys
        from tests.support import AUD, fake_issuer, serve, settings

        async def main():
            async with fake_issuer("EdDSA") as issuer:
                async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
                    token = issuer.token("EdDSA")
                    asked = [await client.verify(token) for _ in range(3)]
                    asked.append(await client.get("/ext-authz/x", Authorization=f"Bearer {token}"))
            ours = [name for name in sys.modules if name.startswith("opentelemetry")]
            print(json.dumps([[reply.status for reply in asked][-1], ours]))

        asyncio.run(main())
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=50
    )
    assert json.loads(ran.stdout) == [200, []]
