from tests.support import Client, FakeIssuer
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


async def test_labels_cannot_be_made_by_a_client(client: Client) -> None:
    for number in range(50):
        await client.get(f"/nothing-{number}")
        await client.get("/verify", Authorization=f"Bearer made.up.{number}")
    text = (await client.ops("/metrics")).text
    assert "made" not in text
    assert text.count("verifier_decisions_total{") == 1


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
