"""A service with three issuers, one of which has gone down, and some requests that it refused."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import (
    ADMIN_TOKEN,
    AUD,
    Client,
    FakeIssuer,
    eventually,
    fake_issuer,
    private_key,
    serve,
    settings,
    sign,
)
from tests.support import claims as good_claims

NAMES = {
    "corporate": "https://login.acme.example/",
    "partners": "https://partners.eu.auth0.example/",
    "kubernetes": "https://kubernetes.default.svc",
}
DOWN = "partners"


@dataclass
class Scene:
    client: Client
    issuers: dict[str, FakeIssuer]

    @property
    def url(self) -> str:
        return f"http://{self.client.service.ops_address}/status"

    def token(self, of: str = "corporate", which: int = 0, **changes: Any) -> str:
        key = private_key("EdDSA", of, which)
        return sign(good_claims(time.time(), **{"iss": NAMES[of], **changes}), key, "EdDSA")

    async def is_stale(self) -> bool:
        found = (await self.client.ops("/status.json")).json["issuers"]
        return [one["standing"] for one in found] == ["fresh", "stale", "fresh"]

    async def traffic(self) -> None:
        """What a morning brings, in small."""
        good = [self.token(name, sub=f"user-{number}") for number in range(12) for name in NAMES]
        for _ in range(6):
            for token in good:
                await self.client.verify(token)
        bad = [
            *[self.token(exp=time.time() - 95) for _ in range(9)],
            *[self.token(aud=f"{AUD}/") for _ in range(6)],
            *[self.token("kubernetes", iss=f"{NAMES['kubernetes']}/") for _ in range(4)],
            *[self.token(which=1) for _ in range(2)],
            secrets.token_urlsafe(24),
        ]
        for token in bad:
            await self.client.verify(token)


@asynccontextmanager
async def scene(folder: Path, *, refresh: str = "1s", max_stale: str = "10m") -> AsyncIterator[Scene]:
    """``DOWN`` has answered once, and does not any more."""
    admin = folder / "admin-token"
    admin.write_text(ADMIN_TOKEN)
    async with (
        fake_issuer("EdDSA", kid="corporate") as corporate,
        fake_issuer("EdDSA", kid="partners") as partners,
        fake_issuer("EdDSA", kid="kubernetes") as kubernetes,
    ):
        issuers = {"corporate": corporate, "partners": partners, "kubernetes": kubernetes}
        configured = [
            {"name": name, "issuer": NAMES[name], "audiences": [AUD], "jwks_uri": f"{issuer.url}/jwks"}
            for name, issuer in issuers.items()
        ]
        made = settings(
            *configured,
            ops={"listen": "127.0.0.1:0", "admin_token_file": str(admin)},
            keys={"refresh": refresh, "max_stale": max_stale, "unknown_kid_cooldown": "1s"},
            routes=[{"path": "/pets/**", "scopes": ["read:pets"]}],
        )
        async with serve(made) as client:
            await eventually(lambda: all(issuer.key_fetches for issuer in issuers.values()))
            await issuers[DOWN].stop()
            yield Scene(client, issuers)
