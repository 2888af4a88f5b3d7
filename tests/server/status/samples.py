"""Values that pages are made of."""

from dataclasses import replace
from typing import Any

from verifier.observability.recent import Denial
from verifier.server.status.model import (
    Cache,
    Decisions,
    Issuer,
    Keys,
    Redis,
    Refusals,
    Revocations,
    Service,
    Standing,
    Status,
)

AT = 1_795_000_000.0

DENIAL = Denial(
    at=AT - 90,
    surface="verify",
    issuer="main",
    outcome="deny",
    reason="wrong_audience",
    detail="the aud of the token is none of those accepted here",
    hint="expected 'https://api.example'",
    request_id="r1",
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
)

KEYS = Keys(
    usable=2,
    dropped={},
    age_seconds=60.0,
    refresh_seconds=600.0,
    max_stale_seconds=86_400.0,
    next_look_seconds=480.0,
    fetched_at=AT - 60,
    last_error=None,
)

MAIN = Issuer("main", ("https://issuer.example/",), Standing.FRESH, KEYS, None)

WELL = Status(
    at=AT,
    service=Service("1.2.3", AT - 7_260, 7_260.0, ready=True, draining=False, workers=2),
    decisions=Decisions(allowed=1_200, denied=30, undecided=0),
    issuers=(MAIN,),
    caches=(Cache("identity", "memory", 500, 1_000, 3, 900, 100, 0.9),),
    redis=Redis(available=True, unavailable_since_at=None, last_error=None, last_error_at=None, errors=0),
    revocations=Revocations(held=4, shared=True, unread_seconds=0.2),
    refusals=(Refusals("main", "deny", "wrong_audience", 30, DENIAL),),
    recent=(DENIAL,),
)


def with_issuer(**changes: Any) -> Status:
    return replace(WELL, issuers=(replace(MAIN, **changes),))
