"""What is declared about the metrics: that they have good names, say what they mean, and cannot be multiplied."""

import ast
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.generated_docs import OF_LIBRARIES
from tests.grpc_check import bearer, check, check_request
from tests.support import AUD, Client, FakeIssuer, fake_issuer, opaque_issuer, private_key, serve, settings
from verifier import __version__
from verifier.config import Settings
from verifier.config.values import UNKNOWN_CALLER
from verifier.observability import labels
from verifier.observability.labels import Named, Values
from verifier.observability.metrics import Metrics
from verifier.surfaces import ext_authz_grpc, surfaces
from verifier.surfaces.aws_answer import FALLBACK, Mode

METRICS = Metrics()
OURS = [family for family in METRICS.registry.collect() if family.name in METRICS.allowed]


def exposed_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def of_ours(test: Any) -> Any:
    return pytest.mark.parametrize("family", OURS, ids=lambda family: family.name)(test)


# Names, by the rules that `promtool check metrics` has


@of_ours
def test_it_says_what_it_means(family: Metric) -> None:
    assert family.documentation.endswith(".")


@of_ours
def test_it_is_called_as_prometheus_wants_it(family: Metric) -> None:
    assert re.fullmatch(r"verifier(_[a-z0-9]+)+", exposed_name(family))


@of_ours
def test_its_name_says_nothing_of_its_type(family: Metric) -> None:
    parts = family.name.split("_")
    assert not {"gauge", "counter", "histogram", "summary"} & {*parts}
    assert parts[-1] not in {"total", "bucket", "count", "sum", "created"}


@of_ours
def test_its_unit_is_a_base_unit_in_full(family: Metric) -> None:
    abbreviated = {"s", "ms", "us", "ns", "sec", "m", "h", "d", "b", "kb", "mb", "gb", "tb", "pb"}
    scaled = {"milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "kilobytes", "megabytes"}
    assert not (abbreviated | scaled | {"percent", "percents", "bits"}) & {*family.name.split("_")}


@of_ours
def test_a_histogram_is_of_seconds(family: Metric) -> None:
    assert (family.type == "histogram") <= family.name.endswith("_seconds")


@of_ours
def test_a_time_of_the_clock_is_called_a_timestamp(family: Metric) -> None:
    assert ("since 1970" in family.documentation) <= family.name.endswith("_timestamp_seconds")


@of_ours
def test_its_labels_have_plain_names(family: Metric) -> None:
    names = {*METRICS.allowed[family.name]}
    assert all(re.fullmatch(r"[a-z]+", name) for name in names)
    assert not names & {"le", "quantile", "job", "instance", "worker"}


def test_every_metric_is_declared_or_of_a_group_that_the_library_brings() -> None:
    others = {family.name for family in METRICS.registry.collect()} - METRICS.allowed.keys()
    assert {name for name in others if not name.startswith(tuple(OF_LIBRARIES))} == set()


# What may stand in labels


def given(config: Settings, kind: Named) -> set[str]:
    """The names of this kind in a service of this configuration."""
    callers = {caller.name for caller in config.callers}
    return {
        Named.ISSUER: {issuer.name for issuer in config.issuers},
        Named.CALLER: callers,
        Named.CALLER_FILE: {f"callers.{name}" for name in callers},
        Named.SURFACE: {*(surface.name for surface in surfaces()), ext_authz_grpc.NAME},
        Named.VERSION: {__version__},
    }[kind]


def words(allowed: Values, config: Settings) -> set[str]:
    named = [given(config, word) if isinstance(word, Named) else {word} for word in allowed]
    return {word for some in named for word in some}


def undeclared(text: str, config: Settings) -> list[tuple[str, str, str]]:
    """Values of labels of ours that are shown and not declared. ``le`` is every histogram's own."""
    return [
        (family.name, label, value)
        for family in text_string_to_metric_families(text)
        if not family.name.startswith(tuple(OF_LIBRARIES))
        for sample in family.samples
        for label, value in sample.labels.items()
        if label != "le" and value not in words(METRICS.allowed[family.name][label], config)
    ]


def series(text: str) -> set[tuple[Any, ...]]:
    families = text_string_to_metric_families(text)
    return {(sample.name, *sorted(sample.labels.items())) for family in families for sample in family.samples}


def odd_requests(issuer: FakeIssuer) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and the rest. No two calls give the same."""
    name = secrets.token_hex(4)
    tokens = [
        issuer.token("EdDSA", sub=name, jti=name),
        issuer.token("EdDSA", exp=1, sub=name),
        issuer.token("EdDSA", aud=f"https://{name}.example"),
        issuer.token("EdDSA", iss=f"https://{name}.example"),
        issuer.token("EdDSA", private_key("EdDSA", name)),
        secrets.token_urlsafe(),
        f"{name}.{name}.{name}",
        name * 4_000,
        "",
    ]
    own = {"X-Request-Id": name, "User-Agent": name, "Host": f"{name}.example", f"X-{name}": name}
    own["traceparent"] = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    for token in tokens:
        headers = {**own, "Authorization": f"Bearer {token}"}
        yield "GET", "/verify", {"headers": headers}
        yield "POST", "/verify", {"headers": own, "json": {"token": token, "path": f"/{name}", "method": name}}
        yield "POST", "/introspect", {"headers": own, "data": {"token": token, name: name}}
        yield name.upper(), f"/ext-authz/{name}", {"headers": headers}
        target = {"X-Original-Method": name.upper(), "X-Original-URL": f"https://{name}.example/{name}"}
        yield "GET", "/auth-request", {"headers": {**headers, **target}}
    yield "GET", "/verify", {"headers": {"Authorization": f"{name} {name}"}}
    yield "GET", f"/{name}", {"headers": own}
    yield name.upper(), "/verify", {"headers": own}
    yield "POST", "/verify", {"data": name, "headers": {"Content-Type": f"application/{name}"}}
    yield "POST", "/verify", {"data": name, "headers": {"Content-Type": "application/json"}}
    yield "POST", "/verify", {"data": name * 100_000, "headers": {"Content-Type": "application/json"}}
    yield "POST", "/aws/authorizer", {"json": {"type": "TOKEN", "authorizationToken": name, "methodArn": name}}
    yield "GET", "/verify", {"headers": {"X-Verifier-Secret": name}, "skip_secret": True}


async def ask_oddly(client: Client, issuer: FakeIssuer, secret: str) -> None:
    for method, path, rest in odd_requests(issuer):
        headers = dict(rest.pop("headers", {}))
        if not rest.pop("skip_secret", False):
            headers["X-Verifier-Secret"] = secret
        await (await client.http.request(method, client.url + path, headers=headers, **rest)).read()
    name = secrets.token_hex(4)
    target = check_request(name.upper(), f"{name}.example", f"/{name}", [bearer(issuer.token("EdDSA", sub=name))])
    await check(str(client.service.grpc_address), target, metadata=(("x-verifier-secret", secret),))
    await check(str(client.service.grpc_address), name.encode(), metadata=(("x-verifier-secret", secret),))


async def test_no_request_makes_a_series_of_its_own(issuer: FakeIssuer, secret_file: Path, tmp_path: Path) -> None:
    secret = secrets.token_hex()
    (tmp_path / "caller").write_text(secret)
    async with fake_issuer("EdDSA") as other:
        config = settings(
            {"name": "main", "issuer": issuer.url, "audiences": [AUD]},
            opaque_issuer("opaque", f"{other.url}/introspect", secret_file),
            callers=[{"name": "gateway", "secret_file": str(tmp_path / "caller")}],
            grpc={"listen": "127.0.0.1:0"},
            keys={"unknown_kid_cooldown": "1h"},
            limits={"body_bytes": 200_000},
        )
        async with serve(config) as client:
            await ask_oddly(client, issuer, secret)
            before = (await client.ops("/metrics")).text
            for _ in range(3):
                await ask_oddly(client, issuer, secret)
            after = (await client.ops("/metrics")).text
    assert series(after) == series(before)
    assert undeclared(after, config) == []
    shown = {sample for sample in series(after) if sample[0] == "verifier_decisions_total"}
    assert len(shown) > 20  # it was asked in many ways


def test_a_value_that_is_not_declared_would_be_noticed() -> None:
    config = settings({"name": "main", "issuer": "https://a.example", "audiences": ["a"]})
    shown = 'verifier_key_set_keys{issuer="main"} 1\nverifier_key_set_keys{issuer="other"} 1\n'
    text = f"# TYPE verifier_key_set_keys gauge\n{shown}"
    assert undeclared(text, config) == [("verifier_key_set_keys", "issuer", "other")]


# What is declared of parts that cannot be imported there


def test_the_policies_are_those_of_aws() -> None:
    assert METRICS.allowed["verifier_aws_policies"]["policy"] == (*Mode, FALLBACK)


def test_the_caller_that_is_refused_has_the_name_that_no_other_may_have() -> None:
    assert UNKNOWN_CALLER in labels.CALLER


def test_the_commands_are_those_that_redis_is_sent() -> None:
    source = ast.parse((Path(__file__).parents[2] / "verifier" / "store" / "redis.py").read_text("utf-8"))
    calls = [node for node in ast.walk(source) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    sending = [call for call in calls if ast.unparse(call.func) in {"self._run", "self._shielded", "self._attempt"}]
    first = [call.args[0] for call in sending]
    assert {argument.value for argument in first if isinstance(argument, ast.Constant)} == {*labels.REDIS_COMMAND}
