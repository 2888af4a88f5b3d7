"""What a Python team writes where there is no such service: an endpoint of FastAPI that has PyJWT decide."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import jwt
from fastapi import FastAPI, Header, HTTPException

ISSUER, AUDIENCE = os.environ["BENCH_ISSUER"], os.environ["BENCH_AUDIENCE"]
ALGORITHMS = [os.environ["BENCH_ALGORITHM"]]
_JWKS = json.loads(Path(os.environ["BENCH_JWKS"]).read_text())
KEYS = {key["kid"]: jwt.PyJWK(key) for key in _JWKS["keys"]}


async def verify(authorization: Annotated[str, Header()] = "") -> dict[str, Any]:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise HTTPException(401)
    try:
        key = KEYS[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=AUDIENCE,
            issuer=ISSUER,
            leeway=30,
            options={"require": ["exp", "iss", "aud"]},
        )
    except (jwt.PyJWTError, KeyError) as error:
        raise HTTPException(401) from error
    return {"allowed": True, "subject": claims["sub"], "scopes": claims["scope"].split(), "expires_at": claims["exp"]}


app = FastAPI()
app.add_api_route("/verify", verify)
