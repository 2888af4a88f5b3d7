"""Bad input in masses, over HTTP, against a real service: never a 5xx, never an allow, never an echo.

``FUZZ_EXAMPLES`` says how many inputs are sent (``make fuzz``: 50,000). They are the same in every run.
"""

import asyncio
import http.client
import io
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import OctKey

from tests.support import claims, encode, private_key, public_jwk, sign
from tests.support import settings as service_settings
from verifier.app import serving
from verifier.core.algorithms import KEY_TYPE
from verifier.observability.log import open_log

INPUTS = int(os.environ.get("FUZZ_EXAMPLES", "2000"))
BATCH = 25
ISS = "https://issuer.example/"
ALGORITHMS = ("RS256", "ES256", "EdDSA")
FAR = 4_000_000_000


@dataclass(frozen=True)
class Input:
    """One request, and the texts that must come back nowhere."""

    raw: bytes
    secrets: tuple[str, ...] = ()


def secrets_of(token: str) -> tuple[str, ...]:
    return tuple(part for part in token.split(".") if len(part) >= 16)


# Values --------------------------------------------------------------------------------------------------------------

TEXT = st.text(max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5u", "x5c", "cty", "zip", "enc"])
CLAIMS = st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "jti", "scope", "azp", "client_id"])

HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from([*KEY_TYPE, "none", "None", "nOnE", "", "RS256 "]) | JSON,
        "kid": st.just("k1") | JSON,
    },
).flatmap(lambda base: st.dictionaries(NAMES, JSON, max_size=2).map(lambda extra: {**extra, **base}))

PAYLOADS = st.dictionaries(CLAIMS, JSON, max_size=4).map(lambda changes: {**claims(iss=ISS, exp=FAR), **changes})


def raw_json(value: Any) -> bytes:
    """JSON as Python writes it, NaN and unpaired surrogates included."""
    return json.dumps(value).encode("utf-8", "surrogatepass")


# Tokens --------------------------------------------------------------------------------------------------------------

GOOD = [sign(claims(iss=ISS, exp=FAR), algorithm=algorithm) for algorithm in ALGORITHMS]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A good token with something about its text changed."""
    token = draw(st.sampled_from(GOOD))
    place = draw(st.integers(0, len(token)))
    piece = draw(st.text("AQgwZz09-_.=+/ \t%é\x00", max_size=3))
    length = draw(st.integers(0, 4))
    changed = token[:place] + piece + token[place + length :]
    return changed if changed.strip() != token else token + "A"  # HTTP itself takes white space off the ends


@st.composite
def forged(draw: st.DrawFn) -> str:
    """Any header over any claims, signed by nobody, by a stranger, or by the public key as a secret."""
    header, payload = draw(HEADERS), draw(PAYLOADS)
    signing_input = f"{encode(raw_json(header)) or 'e30'}.{encode(raw_json(payload))}"
    how = draw(st.integers(0, 3))
    if how == 0:
        return signing_input + "."
    if how == 1:
        return f"{signing_input}.{draw(st.text('AQgw', min_size=1, max_size=90))}"
    if how == 2:
        return sign(
            raw_json(payload), private_key("EdDSA", which=7), "EdDSA", header={**header, "alg": "EdDSA", "kid": "k1"}
        )
    public = OctKey.import_key(json.dumps(public_jwk(private_key("RS256"))).encode())
    return sign(raw_json(payload), public, "HS256", header={**header, "alg": "HS256"})


SPLICED = st.tuples(st.sampled_from(GOOD), st.sampled_from(GOOD), st.permutations([0, 1, 2])).map(
    lambda drawn: ".".join((drawn[0] if n % 2 else drawn[1]).split(".")[n] for n in drawn[2])
)
TOKENS = mutated() | forged() | SPLICED.filter(lambda token: token not in GOOD) | st.text(max_size=60)


# Requests -------------------------------------------------------------------------------------------------------------


def request(method: str, path: str, headers: list[tuple[str, bytes]], body: bytes = b"") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1".encode(),
        b"Host: x",
        *(name.encode() + b": " + value for name, value in headers),
    ]
    if body or method == "POST":
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


def by_header(token: str) -> Input:
    value = token.encode("utf-8", "surrogatepass").replace(b"\r", b" ").replace(b"\n", b" ").replace(b"\x00", b" ")
    return Input(request("GET", "/verify", [("Authorization", b"Bearer " + value)]), secrets_of(token))


def by_body(path: str, body: bytes, kind: bytes = b"application/json") -> bytes:
    return request("POST", path, [("Content-Type", kind)], body)


def asked(token: str, members: dict[str, Any]) -> bytes:
    return raw_json({**members, "token": token})


MEMBERS = st.dictionaries(st.sampled_from(["scopes", "audience", "path", "method", "host", "x"]), JSON, max_size=2)
QUESTIONS = st.tuples(TOKENS, MEMBERS)
BODIES = st.binary(max_size=80) | JSON.map(raw_json)

REQUESTS = st.one_of(
    TOKENS.map(by_header),
    QUESTIONS.map(lambda q: Input(by_body("/verify", asked(*q)), secrets_of(q[0]))),
    st.lists(QUESTIONS, max_size=3).map(
        lambda many: Input(
            by_body("/verify/batch", b'{"requests":[' + b",".join(asked(*q) for q in many) + b"]}"),
            tuple(part for token, _ in many for part in secrets_of(token)),
        )
    ),
    TOKENS.map(
        lambda token: Input(
            by_body(
                "/introspect",
                b"token=" + token.encode("utf-8", "surrogatepass").replace(b"&", b"%26"),
                b"application/x-www-form-urlencoded",
            ),
            secrets_of(token),
        )
    ),
    BODIES.map(lambda body: Input(by_body("/verify", body))),
    BODIES.map(lambda body: Input(by_body("/verify/batch", body))),
    BODIES.map(lambda body: Input(by_body("/introspect", body, b"application/x-www-form-urlencoded"))),
    st.lists(st.sampled_from([f"Bearer {token}" for token in GOOD]), min_size=2, max_size=3).map(
        lambda many: Input(request("GET", "/verify", [("Authorization", value.encode()) for value in many]))
    ),
    st.binary(max_size=60).map(lambda junk: Input(b"GET /verify HTTP/1.1\r\nHost: x\r\n" + junk + b"\r\n\r\n")),
    st.binary(min_size=1, max_size=60).map(lambda junk: Input(junk + b"\r\n\r\n")),
)


# The service under test ----------------------------------------------------------------------------------------------


@dataclass
class Target:
    host: str
    port: int
    log: io.StringIO
    connection: socket.socket | None = None

    def send(self, raw: bytes) -> tuple[int, bytes]:
        """The answer to one request; (0, b"") when the connection was closed without one."""
        for fresh in (False, True):
            try:
                return self._exchange(raw, fresh=fresh)
            except (ConnectionError, http.client.HTTPException):
                self.close()
        return 0, b""

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _exchange(self, raw: bytes, *, fresh: bool) -> tuple[int, bytes]:
        if fresh or self.connection is None:
            self.close()
            self.connection = socket.create_connection((self.host, self.port), timeout=10)
        self.connection.sendall(raw)
        answer = http.client.HTTPResponse(self.connection)
        answer.begin()
        body = answer.read()
        if answer.will_close or answer.version == 10:
            self.close()
        return answer.status, body


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    path = tmp_path_factory.mktemp("fuzz") / "jwks.json"
    path.write_text(json.dumps({"keys": [public_jwk(private_key(algorithm)) for algorithm in ALGORITHMS]}))
    log = io.StringIO()
    loop = asyncio.new_event_loop()
    started: list[str] = []
    stop = asyncio.Event()

    async def run() -> None:
        issuer = {"name": "main", "issuer": ISS, "audiences": ["https://api.example"], "jwks_file": Path(path)}
        made = service_settings(issuer, limits={"read_timeout": "300ms"})
        async with serving(made, open_log("json", "debug", log)) as service:
            started.append(service.address)
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    while not started and thread.is_alive():
        time.sleep(0.01)
    host, _, port = started[0].rpartition(":")
    made = Target(host, int(port), log)
    try:
        yield made
    finally:
        made.close()
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def test_the_tokens_that_are_mutated_are_good_before(target: Target) -> None:
    for token in GOOD:
        status, _ = target.send(request("GET", "/verify", [("Authorization", f"Bearer {token}".encode())]))
        assert status == 200


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # batches are long
@settings(
    max_examples=max(1, INPUTS // BATCH),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(REQUESTS, min_size=BATCH, max_size=BATCH))
def test_bad_input_is_refused_without_an_echo(target: Target, inputs: list[Input]) -> None:
    for one in inputs:
        target.log.seek(0)
        target.log.truncate()
        status, body = target.send(one.raw)
        assert status < 500, (status, one.raw)
        assert b'"allowed":true' not in body, one.raw
        assert b'"active":true' not in body, one.raw
        seen = body.decode("latin-1") + target.log.getvalue()
        assert not [secret for secret in one.secrets if secret in seen], one.raw


def test_the_service_is_well_after_all_of_it(target: Target) -> None:
    target.close()
    status, body = target.send(request("GET", "/verify", [("Authorization", f"Bearer {GOOD[0]}".encode())]))
    assert (status, json.loads(body)["allowed"]) == (200, True)
    assert '"defect"' not in target.log.getvalue()
