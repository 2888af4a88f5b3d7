import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import settings
from verifier.config import ConfigError, Problem, Settings, load

GOOD: dict[str, Any] = {"name": "main", "issuer": "https://issuer.example/", "audiences": ["https://api.example"]}


def written(tmp_path: Path, text: str | dict[str, Any]) -> Path:
    path = tmp_path / "verifier.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    return path


def loaded(tmp_path: Path, *issuers: dict[str, Any], **changes: Any) -> Settings:
    return load(written(tmp_path, {"issuers": list(issuers or (GOOD,)), **changes}))


def problems(tmp_path: Path, text: str | dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ConfigError) as refusal:
        load(written(tmp_path, text))
    return {problem.path: problem.message for problem in refusal.value.problems}


def problem(tmp_path: Path, key: str, **changes: Any) -> str:
    """The message about ``key`` of the only issuer; there must be no other."""
    found = problems(tmp_path, {"issuers": [{**GOOD, **changes}]})
    assert list(found) == [f"issuers[0].{key}"]
    return found[f"issuers[0].{key}"]


def test_a_small_file_is_enough_and_the_rest_is_safe_defaults(tmp_path: Path) -> None:
    made = loaded(tmp_path)
    assert (made.listen, made.ops.listen) == ("127.0.0.1:8080", "127.0.0.1:9090")
    assert made.issuers[0].algorithms == ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
    assert (made.keys.unknown_kid_cooldown, made.limits.token_bytes) == (10.0, 16_384)


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    text = """
listen: 8080
cache: {max_ttl: 5 minutes}
issuers:
  - name: main
    issuer: http://issuer.example
    algorithms: [none]
    audience: https://api.example
  - name: main
    issuer: https://other.example
    audiences: []
typo: 1
"""
    assert set(problems(tmp_path, text)) == {
        "listen",
        "cache.max_ttl",
        "typo",
        "issuers[0].issuer",
        "issuers[0].algorithms[0]",
        "issuers[0].audience",
        "issuers[0].audiences",
        "issuers[1].name",
        "issuers[1].audiences",
    }


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    assert "no key" in problem(tmp_path, "routes", routes=[])


@pytest.mark.parametrize("name", ["", "Main", "a b", 'a"', "a" * 64])
def test_a_name_must_be_fit_for_a_label(name: str, tmp_path: Path) -> None:
    assert problem(tmp_path, "name", name=name)


def test_audiences_are_mandatory(tmp_path: Path) -> None:
    assert "any" in problem(tmp_path, "audiences", audiences=None)


def test_any_audience_can_be_said_out_loud(tmp_path: Path) -> None:
    assert loaded(tmp_path, {**GOOD, "audiences": "any"}).issuers[0].audiences == "any"


@pytest.mark.parametrize("key", ["audiences", "algorithms", "token_types", "scope_claims", "client_ids"])
def test_an_empty_allow_list_is_refused(key: str, tmp_path: Path) -> None:
    assert "empty list" in problem(tmp_path, key, **{key: []})


def test_an_empty_list_of_values_satisfies_nobody_and_is_refused(tmp_path: Path) -> None:
    assert "empty list" in problem(tmp_path, "required_claims.group", required_claims={"group": []})


def test_no_issuers_are_no_configuration(tmp_path: Path) -> None:
    assert problems(tmp_path, {"issuers": []}) == {"issuers": "give at least one issuer"}
    assert problems(tmp_path, {"listen": "127.0.0.1:1"}) == {"issuers": "is mandatory"}


@pytest.mark.parametrize("url", ["http://issuer.example", "ftp://issuer.example", "issuer.example", "https://"])
def test_an_issuer_that_is_not_https_is_refused(url: str, tmp_path: Path) -> None:
    assert "https" in problem(tmp_path, "issuer", issuer=url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8081", "http://localhost:8081", "http://[::1]:8081"])
def test_plain_http_is_for_loopback(url: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, {**GOOD, "issuer": url})


def test_plain_http_can_be_permitted_for_one_issuer(tmp_path: Path) -> None:
    insecure = {**GOOD, "issuer": "http://issuer.example", "allow_insecure_http": True}
    assert loaded(tmp_path, insecure).issuers[0].allow_insecure_http


def test_an_issuer_whose_keys_are_elsewhere_may_be_any_text(tmp_path: Path) -> None:
    assert loaded(tmp_path, {**GOOD, "issuer": "accounts.example", "jwks_file": "keys.json"})


def test_an_address_for_keys_must_be_https_too(tmp_path: Path) -> None:
    assert "https" in problem(tmp_path, "jwks_uri", jwks_uri="http://issuer.example/jwks")


@pytest.mark.parametrize("suffix", ["?a=b", "#x"])
def test_an_issuer_has_no_query_and_no_fragment(suffix: str, tmp_path: Path) -> None:
    assert "query" in problem(tmp_path, "issuer", issuer=f"https://issuer.example/{suffix}")


def test_keys_come_from_one_place(tmp_path: Path) -> None:
    two = {"jwks_uri": "https://issuer.example/jwks", "jwks_file": "keys.json"}
    assert "jwks_uri" in problem(tmp_path, "jwks_file", **two)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE"])
def test_none_cannot_be_configured(algorithm: str, tmp_path: Path) -> None:
    assert "unsigned" in problem(tmp_path, "algorithms[0]", algorithms=[algorithm])


def test_an_algorithm_nearly_right_is_suggested(tmp_path: Path) -> None:
    assert "did you mean RS256?" in problem(tmp_path, "algorithms[0]", algorithms=["rs256"])


def test_a_shared_secret_never_stands_beside_public_keys(tmp_path: Path) -> None:
    assert "beside" in problem(tmp_path, "algorithms", algorithms=["HS256", "RS256"], secret_file="s")


def test_hs_algorithms_need_a_secret(tmp_path: Path) -> None:
    assert "secret_file" in problem(tmp_path, "algorithms", algorithms=["HS256"])


def test_a_secret_needs_hs_algorithms(tmp_path: Path) -> None:
    assert "HS256" in problem(tmp_path, "algorithms", secret_file="s")


def test_an_issuer_with_a_secret_can_be_configured(tmp_path: Path) -> None:
    assert loaded(tmp_path, {**GOOD, "algorithms": ["HS256"], "secret_file": "s"})


def test_two_issuers_cannot_speak_for_the_same_iss(tmp_path: Path) -> None:
    found = problems(tmp_path, {"issuers": [GOOD, {**GOOD, "name": "two"}]})
    assert found == {"issuers[1].issuer": "'https://issuer.example/' is issuer 'main' already"}


def test_a_tenant_template_needs_tenants(tmp_path: Path) -> None:
    assert "tenants" in problem(tmp_path, "tenants", issuer="https://login.example/{tenantid}/v2.0")


def test_no_other_placeholder_is_known(tmp_path: Path) -> None:
    assert "placeholder" in problem(tmp_path, "issuer", issuer="https://login.example/{tenant}/")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tenants", ["a"]),
        ("discovery_url", "https://login.example/common"),
        ("issuer_aliases", ["https://login.example/{tenantid}/"]),
    ],
)
def test_settings_for_tenants_that_would_do_nothing_are_refused(key: str, value: object, tmp_path: Path) -> None:
    assert "issuer" in problem(tmp_path, key, **{key: value})


def test_a_place_for_discovery_beside_keys_is_refused(tmp_path: Path) -> None:
    tenants = {
        "issuer": "https://login.example/{tenantid}/",
        "tenants": ["a"],
        "discovery_url": "https://login.example",
    }
    assert "jwks_uri" in problem(tmp_path, "discovery_url", jwks_uri="https://login.example/jwks", **tenants)


@pytest.mark.parametrize("value", [30, "30", "30 s", "-1s", "1y", "", None, "s", "1e3s", True])
def test_a_duration_needs_its_unit(value: object, tmp_path: Path) -> None:
    assert "unit" in problem(tmp_path, "leeway", leeway=value)


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("1.5s", 1.5), ("2m", 120.0)])
def test_durations_are_read(text: str, seconds: float, tmp_path: Path) -> None:
    assert loaded(tmp_path, {**GOOD, "leeway": text}).issuers[0].leeway == seconds


def test_a_leeway_of_hours_is_refused(tmp_path: Path) -> None:
    assert problem(tmp_path, "leeway", leeway="2h")


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    text = "issuers: []\nissuers: []\n"
    assert "'issuers' is there twice" in problems(tmp_path, text)[""]


@pytest.mark.parametrize("text", ["a: [", "\t", "- x", "x", "", "? {a: 1}\n: 2"])
def test_a_file_that_is_no_map_of_keys_is_refused(text: str, tmp_path: Path) -> None:
    assert problems(tmp_path, text)


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    assert "not YAML" in problems(tmp_path, "x: !!python/object/apply:os.system ['true']")[""]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml"):
        load(tmp_path / "no.yaml")


def test_the_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFIER_CONFIG", str(written(tmp_path, {"issuers": [GOOD]})))
    assert load().issuers[0].name == "main"


def test_any_key_can_be_set_by_the_environment_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFIER__CACHE__MAX_TTL", "1m")
    monkeypatch.setenv("VERIFIER__LISTEN", "0.0.0.0:80")
    made = loaded(tmp_path, cache={"max_ttl": "2m", "max_entries": 50})
    assert (made.cache.max_ttl, made.cache.max_entries, made.listen) == (60.0, 50, "0.0.0.0:80")


def test_a_package_of_the_service_can_change_defaults_under_the_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERIFIER_DEFAULT__LISTEN", "0.0.0.0:80")
    monkeypatch.setenv("VERIFIER_DEFAULT__OPS__LISTEN", "0.0.0.0:90")
    monkeypatch.setenv("VERIFIER_DEFAULT__CACHE__MAX_ENTRIES", "50")
    monkeypatch.setenv("VERIFIER__CACHE__MAX_ENTRIES", "60")
    made = loaded(tmp_path, ops={"admin_token_file": "token"}, listen="10.0.0.1:80")
    assert (made.listen, made.ops.listen, made.cache.max_entries) == ("10.0.0.1:80", "0.0.0.0:90", 60)
    assert made.ops.admin_token_file == Path("token")


def test_issuers_can_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFIER__ISSUERS", json.dumps([GOOD]))
    assert load().issuers[0].name == "main"


def test_json_of_the_environment_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFIER__ISSUERS", "[")
    with pytest.raises(ConfigError, match="environment"):
        load()


@pytest.mark.parametrize(
    "name", ["VERIFIER__TYPO", "VERIFIER__CACHE__TYPO", "VERIFIER_DEFAULT__TYPO", "VERIFIER_DEFAULT__CACHE__TYPO"]
)
def test_a_variable_that_stands_for_no_key_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match="no key"):
        loaded(tmp_path)


def test_the_variables_of_the_auth0_sample_make_one_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_ISSUER", "https://acme.eu.auth0.com/")
    monkeypatch.setenv("AUDIENCE", "https://api.example")
    monkeypatch.setenv("JWKS_URI", "https://acme.eu.auth0.com/.well-known/jwks.json")
    issuer = load().issuers[0]
    assert (issuer.issuer, issuer.audiences) == ("https://acme.eu.auth0.com/", ("https://api.example",))
    assert issuer.jwks_uri == "https://acme.eu.auth0.com/.well-known/jwks.json"


def test_an_issuer_of_variables_needs_its_audience_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_ISSUER", "https://acme.eu.auth0.com/")
    with pytest.raises(ConfigError, match="audiences"):
        load()


def test_without_any_configuration_it_says_how_to_give_one() -> None:
    with pytest.raises(ConfigError, match="--config FILE"):
        load()


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    made = loaded(tmp_path)
    with pytest.raises(Exception, match="frozen"):
        made.listen = "x"  # type: ignore[misc]


def test_a_problem_reads_as_path_and_message() -> None:
    assert str(ConfigError((Problem("a.b", "is wrong"),))) == "a.b: is wrong"


def route_problem(tmp_path: Path, **route: Any) -> str:
    """The message about the only route; there must be no other."""
    found = problems(tmp_path, {"issuers": [GOOD], "routes": [{"path": "/a", **route}]})
    assert len(found) == 1
    ((place, message),) = found.items()
    assert place.startswith("routes[0].")
    return f"{place}: {message}"


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ({"path": "a"}, "path: expected a path that begins with /"),
        ({"path": "/a/**/b"}, "stand for whole segments"),
        ({"methods": ["get"]}, "methods"),
        ({"methods": []}, "methods"),
        ({"hosts": ["https://acme.example"]}, "hosts"),
        ({"scopes": []}, "scopes"),
        ({"issuers": ["mian"]}, "there is no issuer 'mian'"),
        ({"anonymous": True, "deny": True}, "deny: there is anonymous already"),
        ({"anonymous": True, "scopes": ["read"]}, "scopes: does nothing with anonymous"),
        ({"deny": True, "claims": {"a": "b"}}, "claims: does nothing with deny"),
        ({"scope": "read"}, "scope"),
    ],
)
def test_a_mistake_in_a_route_is_told(route: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in route_problem(tmp_path, **route)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"trusted_proxies": ["gateway"]}, "trusted_proxies[0]"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies[0]"),
        ({"trusted_proxies": ["fe80::1%eth0"]}, "trusted_proxies[0]"),
        ({"trusted_proxies": ["::ffff:10.0.0.0/104"]}, "trusted_proxies[0]"),
        ({"identity_headers": {"X-User": "sub", "x-user": "email"}}, "identity_headers"),
        ({"identity_headers": {"Content-Encoding": "sub"}}, "identity_headers"),
        ({"routes": [{"path": "/a", "name": "a"}, {"path": "/b", "name": "a"}]}, "routes[1].name"),
        ({"routes": [{"path": "/a", "name": "routes[7]"}]}, "routes[0].name"),
        ({"path_forms": ["nul"]}, "path_forms[0]"),
        ({"default_route": "anonymous"}, "default_route"),
        ({"identity_headers": {"X-Auth-Subject": "sub"}}, "identity_headers"),
        ({"identity_headers": {"Set-Cookie": "sub"}}, "identity_headers"),
        ({"identity_headers": {"X User": "sub"}}, "identity_headers"),
    ],
)
def test_a_mistake_about_gateways_is_told(changes: dict[str, Any], place: str, tmp_path: Path) -> None:
    assert any(key.startswith(place) for key in problems(tmp_path, {"issuers": [GOOD], **changes}))


def test_routes_are_loaded_as_they_are_written(tmp_path: Path) -> None:
    route = {"path": "/a/{id}", "methods": ["GET"], "claims": {"groups": "staff"}, "max_auth_age": "5m"}
    made = loaded(tmp_path, routes=[route], path_forms=["repeated_slashes"], trusted_proxies=["10.0.0.0/8", "::1"])
    assert (made.routes[0].claims, made.routes[0].max_auth_age) == ({"groups": ("staff",)}, 300.0)
    assert made.default_route == "authenticated"


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"listen": "127.0.0.1:9090"}, "ops.listen", "127.0.0.1:9090 is listen already"),
        ({"grpc": {"listen": "127.0.0.1:8081"}, "ops": {"listen": "127.0.0.1:8081"}}, "grpc.listen", "is ops.listen"),
        ({"listen": "unix:/run/v", "grpc": {"listen": "unix:/run/v"}}, "grpc.listen", "unix:/run/v is listen already"),
    ],
)
def test_each_port_has_an_address_of_its_own(changes: dict[str, Any], key: str, said: str, tmp_path: Path) -> None:
    written_out = {"listen": "127.0.0.1:8080", "ops": {"listen": "127.0.0.1:9090"}}
    found = problems(tmp_path, {"issuers": [GOOD], **written_out, **changes})
    assert [*found] == [key]
    assert said in found[key]


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"workers": 2, "grpc": {"listen": "unix:/run/v"}}, "grpc.listen", "only one process can serve gRPC"),
        ({"workers": "2", "grpc": {"listen": "unix:/run/v"}}, "grpc.listen", "only one process can serve gRPC"),
        ({"workers": 0}, "workers", "greater than or equal to 1"),
        ({"workers": 65}, "workers", "less than or equal to 64"),
    ],
)
def test_a_mistake_about_workers_is_told(changes: dict[str, Any], key: str, said: str, tmp_path: Path) -> None:
    found = problems(tmp_path, {"issuers": [GOOD], **changes})
    assert [*found] == [key]
    assert said in found[key]


def test_one_worker_may_serve_grpc_on_a_unix_socket(tmp_path: Path) -> None:
    assert loaded(tmp_path, workers=1, grpc={"listen": "unix:/run/v"}).workers == 1


def test_ports_that_the_system_chooses_are_never_the_same(tmp_path: Path) -> None:
    any_port = {"listen": "127.0.0.1:0"}
    assert loaded(tmp_path, **any_port, ops=any_port, grpc=any_port).listen == "127.0.0.1:0"


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:80800", "127.0.0.1:65536", "127.0.0.1", ":", "here:port", "127.0.0.1:-1"]
)
def test_what_is_no_address_is_refused_with_one_that_is(listen: str) -> None:
    """Sockets would take the rest of a port that is too large."""
    with pytest.raises(ValueError, match=r"expected host:port, such as 127\.0\.0\.1:8080"):
        settings({"name": "a", "issuer": "https://a.example", "audiences": ["b"]}, listen=listen)


@pytest.mark.parametrize("listen", ["127.0.0.1:65535", ":0", "[::1]:8080", "localhost:80"])
def test_what_is_an_address_is_taken(listen: str) -> None:
    made = settings({"name": "a", "issuer": "https://a.example", "audiences": ["b"]}, listen=listen)
    assert made.listen == listen
