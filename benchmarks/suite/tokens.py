"""Keys and tokens, made for one run: what an access token usually says, signed by every core at once."""

import json
import os
import secrets
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from joserfc.jwk import JWKRegistry, OctKey

from tests.support import PrivateKey, private_key, public_jwk, sign

ISSUER = "https://issuer.example/"
AUDIENCE = "https://api.example"
COUNT = 5_000
LIFETIME = 6 * 3_600
"""Longer than any run."""


def claims(number: int, now: float) -> dict[str, Any]:
    """About 300 bytes, as of many an issuer."""
    return {
        "iss": ISSUER,
        "sub": f"auth0|{number:024x}",
        "aud": AUDIENCE,
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + LIFETIME,
        "jti": secrets.token_hex(16),
        "client_id": "nQ5vVx0hJm3kT8yB2cRw7sZd1fLg9aPe",
        "scope": "read:orders write:orders read:customers",
    }


def _signed(jwk: dict[str, Any], algorithm: str, now: float, numbers: Sequence[int]) -> list[str]:
    key: Any = JWKRegistry.import_key(jwk)
    return [sign(claims(number, now), key, algorithm) for number in numbers]


def _on_every_core() -> None:
    """The suite keeps itself to the load's cores, but nothing is measured while tokens are made."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class Tokens:
    """The files of one algorithm: its key in each form that a server wants, and the good tokens, one a line."""

    algorithm: str
    key: PrivateKey
    folder: Path
    good: list[str]
    bad: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "tokens"

    @property
    def jwks_file(self) -> Path:
        return self.folder / "jwks.json"

    @property
    def jwks(self) -> str:
        return json.dumps({"keys": [public_jwk(self.key, alg=self.algorithm, use="sig")]})

    @property
    def public_key_file(self) -> Path:
        return self.folder / "public.pem"

    @property
    def secret_file(self) -> Path:
        return self.folder / "secret"

    def write(self) -> None:
        self.folder.mkdir()
        self.file.write_text("".join(f"{token}\n" for token in self.good))
        if isinstance(self.key, OctKey):
            self.secret_file.write_bytes(self.key.raw_value)
        else:
            self.jwks_file.write_text(self.jwks)
            self.public_key_file.write_bytes(self.key.as_pem(private=False))


class Mint:
    """Makes the tokens of an algorithm when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Tokens] = {}

    def of(self, algorithm: str) -> Tokens:
        if algorithm not in self._made:
            self._made[algorithm] = self.make(algorithm, COUNT)
        return self._made[algorithm]

    def make(self, algorithm: str, count: int) -> Tokens:
        # The secret is written to a file as it is, so that it must be a text.
        key = (
            OctKey.import_key(secrets.token_hex(32), {"kid": "k1"}) if algorithm == "HS256" else private_key(algorithm)
        )
        now = time.time() - 1
        parts = [range(count)[first : first + 250] for first in range(0, count, 250)]
        with ProcessPoolExecutor(os.cpu_count(), initializer=_on_every_core) as pool:
            signed: Iterable[list[str]] = pool.map(partial(_signed, key.as_dict(private=True), algorithm, now), parts)
            good = [token for part in signed for token in part]
        made = Tokens(algorithm, key, self._folder / f"{algorithm}-{count}", good, _bad(key, algorithm, good[0], now))
        made.write()
        return made


def _bad(key: PrivateKey, algorithm: str, good: str, now: float) -> dict[str, str]:
    """What every server must refuse, by what is wrong with it."""
    body, _, signature = good.rpartition(".")
    middle = len(signature) // 2
    broken = signature[:middle] + ("A" if signature[middle] != "A" else "B") + signature[middle + 1 :]
    old = {**claims(0, now - 2 * LIFETIME), "exp": int(now) - 3_600}
    other = {**claims(0, now), "aud": "https://other.example"}
    return {
        "a broken signature": f"{body}.{broken}",
        "the end of its life behind it": sign(old, key, algorithm),
        "another audience": sign(other, key, algorithm),
    }
