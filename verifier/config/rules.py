"""What must hold between keys of the configuration, found on raw data.

pydantic stops asking about a whole section once one key in it is wrong. A user wants all mistakes at once, so
these rules read what was written and put up with anything that is not of the expected form: the form is
pydantic's to complain about.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from verifier.config.values import UNKNOWN_CALLER, suggestion
from verifier.core.algorithms import SYMMETRIC
from verifier.core.issuer import TENANT
from verifier.presets import presets
from verifier.remote.http import may_fetch
from verifier.store import servers

Finder = Callable[[Mapping[str, Any]], list[InitErrorDetails]]
_CREDENTIALS: Mapping[str, tuple[str, ...]] = {
    "client_secret_basic": ("client_id", "client_secret_file"),
    "client_secret_post": ("client_id", "client_secret_file"),
    "private_key_jwt": ("client_id", "client_key_file"),
    "bearer": ("bearer_file",),
}
_DEMANDS = frozenset({"scopes", "any_scopes", "claims", "issuers", "audiences", "client_ids", "max_auth_age"})
_KEY_ORIGINS = ("jwks_uri", "jwks_file", "public_key_files", "secret_file")


def with_preset(data: Any) -> Any:
    """The issuer's settings over those of its preset; required claims of both are demanded."""
    preset = presets().get(str(data.get("preset"))) if isinstance(data, dict) else None
    if preset is None:
        return data
    merged = {**preset.defaults, **data}
    own = data.get("required_claims", {})
    if isinstance(own, dict):
        merged["required_claims"] = {**preset.defaults.get("required_claims", {}), **own}
    if any(data.get(origin) for origin in _KEY_ORIGINS):
        # The user's way to the keys, not the preset's; and the preset's credentials are for the preset's address.
        _drop_unwritten(merged, data, (*_KEY_ORIGINS, "discovery_url", "ca_file", "bearer_file"))
    if TENANT not in _text(merged, "issuer"):
        _drop_unwritten(merged, data, ("discovery_url",))
        if "issuer_aliases" not in data:
            merged["issuer_aliases"] = [alias for alias in _texts(merged, "issuer_aliases") if TENANT not in alias]
    return merged


def _drop_unwritten(merged: dict[str, Any], written: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in names:
        if name not in written:
            merged.pop(name, None)


def identifiers(issuer: str, aliases: Iterable[str], tenants: Iterable[str]) -> tuple[str, ...]:
    """Every exact ``iss``, with each tenant in the place of ``{tenantid}``."""
    found = [
        text.replace(TENANT, tenant) for text in (issuer, *aliases) for tenant in (tenants if TENANT in text else ("",))
    ]
    return tuple(dict.fromkeys(found))


def issuer_problems(data: Mapping[str, Any]) -> list[InitErrorDetails]:
    """Problems between the keys of one issuer, its preset already merged in."""
    return [
        problem
        for rule in (
            _audience_rule,
            _address_rule,
            _origin_rule,
            _algorithm_rule,
            _tenant_rule,
            _introspection_rule,
        )
        for problem in rule(data)
    ]


def settings_problems(data: Mapping[str, Any]) -> list[InitErrorDetails]:
    """Problems between issuers, and between the keys of other sections."""
    found: list[InitErrorDetails] = [
        *_listen_rule(data),
        *_worker_rule(data),
        *_redis_rule(data),
        *_prefix_rule(data),
        *_route_rule(data),
        *_header_rule(data),
        *_aws_rule(data),
        *_caller_rule(data),
        *_tls_rule(data),
    ]
    names: dict[str, int] = {}
    owners: dict[str, str] = {}
    issuers = data.get("issuers")
    if issuers in ([], ()):
        found.append(problem("give at least one issuer", "issuers"))
    for index, raw in enumerate(issuers if isinstance(issuers, list | tuple) else ()):
        issuer = with_preset(raw)
        if not isinstance(issuer, Mapping):
            continue
        name = str(issuer.get("name"))
        if names.setdefault(name, index) != index:
            found.append(problem(f"{name!r} names issuer {names[name] + 1} already", "issuers", index, "name"))
        texts = identifiers(_text(issuer, "issuer"), _texts(issuer, "issuer_aliases"), _texts(issuer, "tenants"))
        found += [
            problem(f"{text!r} is issuer {owners[text]!r} already", "issuers", index, "issuer")
            for text in texts
            if text and owners.setdefault(text, name) != name
        ]
    return found


def problem(message: str, *location: str | int, found: Any = None) -> InitErrorDetails:
    return InitErrorDetails(
        type=PydanticCustomError("rule", "{message}", {"message": message}), loc=location, input=found
    )


def line_errors(error: ValidationError) -> list[InitErrorDetails]:
    """A finished report, in the form in which it can be joined to another."""
    return [
        InitErrorDetails(
            type=PydanticCustomError(entry["type"], "{message}", {"message": entry["msg"]}),
            loc=entry["loc"],
            input=entry["input"],
        )
        for entry in error.errors(include_url=False)
    ]


def _audience_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    if data.get("audiences") is not None:
        return
    preset = presets().get(str(data.get("preset")))
    if preset is not None and preset.audience_free:
        if not data.get("client_ids"):
            yield problem("give the client ids whose tokens are accepted", "client_ids")
        return
    yield problem(
        "give the audiences to accept (what your API is called in `aud`), or `any` if it does not matter",
        "audiences",
    )


def _address_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    insecure = data.get("allow_insecure_http") is True
    fetched = [name for name in ("jwks_uri", "discovery_url") if data.get(name)]
    endpoint = _text(_section(data, "introspection"), "endpoint")
    if endpoint and not may_fetch(endpoint, insecure_http=insecure):
        yield problem(_https(endpoint), "introspection", "endpoint")
    if not any(data.get(origin) for origin in _KEY_ORIGINS) and not data.get("discovery_url"):
        fetched.append("issuer")
    elif _text(data, "issuer").startswith("http:"):
        fetched.append("issuer")  # its tokens would be asked for in the clear
    for name in fetched:
        url = _text(data, name)
        if url and not may_fetch(url.replace(TENANT, "tenant"), insecure_http=insecure):
            yield problem(_https(url), name)
        elif url and (urlsplit(url).query or urlsplit(url).fragment) and name == "issuer":
            yield problem("an issuer has no query and no fragment (RFC 8414 section 2)", name)


def _origin_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    given = [name for name in _KEY_ORIGINS if data.get(name)]
    for name in given[1:]:
        yield problem(f"{given[0]} says already where the keys are; give one of them", name)
    if given and data.get("discovery_url"):
        yield problem(f"{given[0]} says already where the keys are; leave it out", "discovery_url")


def _algorithm_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    symmetric = SYMMETRIC.intersection(_texts(data, "algorithms"))
    others = set(_texts(data, "algorithms")) - symmetric
    if symmetric and others:
        yield problem("HS algorithms cannot stand beside others: a public key would pass for the secret", "algorithms")
    elif symmetric and not data.get("secret_file"):
        yield problem("HS algorithms need a secret_file", "algorithms")
    elif data.get("secret_file") and not symmetric:
        yield problem("a secret_file needs algorithms: [HS256] (or HS384, HS512)", "algorithms")


def _tenant_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    templated = TENANT in _text(data, "issuer")
    if templated and not _texts(data, "tenants"):
        yield problem("give the tenants to accept, as the issuer holds {tenantid}", "tenants")
    if not templated:
        for name in ("tenants", "discovery_url"):
            if data.get(name):
                yield problem("does nothing unless the issuer holds {tenantid}", name)
        if any(TENANT in alias for alias in _texts(data, "issuer_aliases")):
            yield problem("{tenantid} has to stand in the issuer too", "issuer_aliases")
    if _text(data, "issuer").replace(TENANT, "").count("{"):
        yield problem("the only placeholder is {tenantid}", "issuer")


def _introspection_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    section = _section(data, "introspection")
    if not section:
        if data.get("introspect") not in (None, "opaque"):
            yield problem("needs introspection: how the issuer is asked", "introspect")
        return
    if TENANT in _text(data, "issuer") and not section.get("endpoint"):
        yield problem("give the endpoint: which tenant's would be discovered?", "introspection", "endpoint")
    if data.get("introspect") == "only":
        for name in filter(data.get, _KEY_ORIGINS):
            yield problem("does nothing with introspect: only", name)
    yield from _credential_rule(section)


def _credential_rule(section: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    auth = _text(section, "auth") or "client_secret_basic"
    needed = _CREDENTIALS.get(auth, ())
    for name in needed:
        if not section.get(name):
            yield problem(f"is mandatory with auth: {auth}", "introspection", name)
    for name in sorted({name for names in _CREDENTIALS.values() for name in names}.difference(needed, ["client_id"])):
        if section.get(name):
            yield problem(f"does nothing with auth: {auth}", "introspection", name)


def _listen_rule(data: Mapping[str, Any]) -> list[InitErrorDetails]:
    """Each port has an address of its own."""
    taken: dict[str, str] = {}
    found = []
    for place in (("listen",), ("ops", "listen"), ("grpc", "listen")):
        value: Any = data
        for name in place:
            value = value.get(name) if isinstance(value, Mapping) else None
        written = ".".join(place)
        if isinstance(value, str) and not value.endswith(":0") and taken.setdefault(value, written) != written:
            found.append(problem(f"{value} is {taken[value]} already", *place))
    return found


def _worker_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    several = str(data.get("workers", 1)).strip() != "1"  # the environment has texts
    if several and _text(_section(data, "grpc"), "listen").startswith("unix:"):
        yield problem(
            "only one process can serve gRPC on a Unix socket: use an address, or workers: 1", "grpc", "listen"
        )


def _redis_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    section = _section(data, "redis")
    url = _text(section, "url")
    if not url:
        for name in sorted(
            {"key_file", "previous_key_file", "password_file", "sentinel_password_file", "ca_file"}.intersection(
                section
            )
        ):
            yield problem("does nothing without a url", "redis", name)
        return
    try:
        servers.parse(url)
    except ValueError as error:
        yield problem(str(error), "redis", "url")
    if section.get("key_file") and section.get("trusted") is True:
        yield problem("there is a key_file: leave trusted out", "redis", "trusted")
    if not section.get("key_file") and section.get("trusted") is not True:
        yield problem(
            "is mandatory (openssl rand -base64 32), or write trusted: true if nobody else can write to this Redis",
            "redis",
            "key_file",
        )


def _prefix_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    owners: dict[str, str] = {}
    issuers = data.get("issuers")
    for index, issuer in enumerate(issuers if isinstance(issuers, list | tuple) else ()):
        prefix = _text(_section(issuer, "introspection"), "token_prefix") if isinstance(issuer, Mapping) else ""
        if prefix and owners.setdefault(prefix, str(issuer.get("name"))) != str(issuer.get("name")):
            text = f"{prefix!r} is that of issuer {owners[prefix]!r} already"
            yield problem(text, "issuers", index, "introspection", "token_prefix")


def _route_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    issuers = data.get("issuers")
    names = {_text(issuer, "name") for issuer in issuers if isinstance(issuer, Mapping)} if issuers else set()
    written = data.get("routes")
    called: set[str] = set()
    for place, route in enumerate(written if isinstance(written, list | tuple) else ()):
        if not isinstance(route, Mapping):
            continue
        name = _text(route, "name") or f"routes[{place}]"
        if name in called or (route.get("name") and name.startswith("routes[")):
            yield problem(f"{name!r} is another route's name", "routes", place, "name")
        called.add(name)
        open_or_closed = [name for name in ("anonymous", "deny") if route.get(name) is True]
        if len(open_or_closed) == 2:
            yield problem("there is anonymous already: who may take it?", "routes", place, "deny")
        elif open_or_closed:
            idle = _DEMANDS | ({"aws_condition"} if open_or_closed == ["deny"] else set())
            for name in sorted(idle.intersection(route)):
                yield problem(f"does nothing with {open_or_closed[0]}", "routes", place, name)
        if route.get("report_only") is True and "aws_condition" in route:
            text = (
                "IAM is asked about no route that is only reported, so nobody can tell whether it holds; leave it out"
            )
            yield problem(text, "routes", place, "aws_condition")
        for name in _texts(route, "issuers"):
            if name not in names:
                yield problem(f"there is no issuer {name!r}{suggestion(name, names)}", "routes", place, "issuers")


def _aws_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    section = _section(data, "aws")
    if section.get("usage_keys") and not section.get("usage_key_claim"):
        yield problem("does nothing without usage_key_claim", "aws", "usage_keys")
    if section.get("http_answers") == "policy" and "http_ttl" in section:
        yield problem("does nothing with http_answers: policy", "aws", "http_ttl")


def _header_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    names = [str(name).lower() for name in _section(data, "identity_headers")]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield problem(f"{name} is there twice, as letters in another case make no other header", "identity_headers")


def _caller_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    names: dict[str, int] = {}
    callers = data.get("callers")
    if callers in ([], ()):
        yield problem("an empty list is refused: leave it out, if nobody has to show a secret", "callers")
    for place, caller in enumerate(callers if isinstance(callers, list | tuple) else ()):
        name = _text(caller, "name") if isinstance(caller, Mapping) else ""
        if name == UNKNOWN_CALLER:
            yield problem("is what metrics call those that are refused", "callers", place, "name")
        elif name and names.setdefault(name, place) != place:
            yield problem(f"{name!r} is callers[{names[name]}] already", "callers", place, "name")
    if data.get("callers_exempt") and not callers:
        yield problem("does nothing without callers", "callers_exempt")


def _tls_rule(data: Mapping[str, Any]) -> Iterable[InitErrorDetails]:
    section = _section(data, "tls")
    given = [name for name in ("certificate_file", "key_file", "client_ca_file") if section.get(name)]
    for name in ("certificate_file", "key_file"):
        if given and name not in given:
            yield problem(f"is mandatory with {given[0]}", "tls", name)
    if given and _text(data, "listen").startswith("unix:"):
        yield problem("is for an address: a Unix socket stays on this machine, and has the mode of its file", "tls")


def _https(url: str) -> str:
    return f"expected https://…, found {url!r}; http is for loopback, or with allow_insecure_http: true"


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _texts(data: Mapping[str, Any], name: str) -> list[str]:
    value = data.get(name)
    return [text for text in value if isinstance(text, str)] if isinstance(value, list | tuple) else []
