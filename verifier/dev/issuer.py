"""An authorization server in the process: metadata, keys, the client-credentials grant, and rotation on request.

True to the standards in what it serves (RFC 8414, OpenID Connect Discovery, RFC 7517, RFC 6749 §4.4, RFC 9068),
so that the verifier talks to it as to any other issuer. It has two doors that no real issuer may have: anyone
can have any token minted, and the keys rotated. It therefore listens on loopback only.
"""

import base64
import binascii
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from verifier.core import base64url, strict_json

AUDIENCE = "https://api.example.test"
CLIENT_ID = "dev"
SCOPES = ("read:pets", "write:pets")
LIFETIME = 3600
ALGORITHMS = ("RS256", "ES256", "EdDSA")

SigningKey = RSAKey | ECKey | OKPKey


def new_key(algorithm: str) -> SigningKey:
    """A private key for ``algorithm`` under a ``kid`` of its own. Raises ``ValueError`` for one not served here."""
    parameters: Any = {"kid": uuid.uuid4().hex[:12], "alg": algorithm, "use": "sig"}
    if algorithm == "RS256":
        return RSAKey.generate_key(2048, parameters=parameters)
    if algorithm == "ES256":
        return ECKey.generate_key("P-256", parameters=parameters)
    if algorithm == "EdDSA":
        return OKPKey.generate_key("Ed25519", parameters=parameters)
    raise ValueError(f"expected one of {', '.join(ALGORITHMS)}, found {algorithm!r}")


def sign(claims: Mapping[str, Any], key: SigningKey, typ: str = "at+jwt") -> str:
    """A token with exactly ``claims``."""
    header = {"alg": key.alg, "typ": typ, "kid": key.kid}
    signing_input = ".".join(base64url.encode(json.dumps(part).encode()) for part in (header, dict(claims)))
    signature = JWSRegistry.algorithms[str(key.alg)].sign(signing_input.encode(), key)
    return f"{signing_input}.{base64url.encode(signature)}"


class DevIssuer:
    """The issuer at ``url``; its application is served by whoever made it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client_secret = secrets.token_urlsafe(18)
        self._current = {algorithm: new_key(algorithm) for algorithm in ALGORITHMS}
        self._previous: dict[str, SigningKey] = {}

    def application(self) -> web.Application:
        app = web.Application(client_max_size=65_536)
        metadata = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")
        app.add_routes([web.get(path, self._metadata) for path in metadata])
        app.add_routes(
            [
                web.get("/jwks", self._jwks),
                web.post("/token", self._token),
                web.post("/mint", self._mint),
                web.post("/rotate", self._rotate),
            ]
        )
        return app

    def claims(self, subject: str, scopes: str) -> dict[str, Any]:
        """The claims of an access token (RFC 9068 §2.2)."""
        now = int(time.time())
        return {
            "iss": self.url,
            "sub": subject,
            "aud": AUDIENCE,
            "client_id": subject,
            "scope": scopes,
            "iat": now,
            "exp": now + LIFETIME,
            "jti": uuid.uuid4().hex,
        }

    async def _metadata(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks",
                "token_endpoint": f"{self.url}/token",
                "grant_types_supported": ["client_credentials"],
                "response_types_supported": ["none"],
                "scopes_supported": SCOPES,
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ALGORITHMS,
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            }
        )

    async def _jwks(self, request: web.Request) -> web.StreamResponse:
        keys = [*self._current.values(), *self._previous.values()]
        response = web.json_response({"keys": [key.as_dict(private=False) for key in keys]})
        response.headers["Cache-Control"] = "max-age=60"
        state = "-".join(str(key.kid) for key in keys)
        response.etag = state
        if any(tag.value == state for tag in request.if_none_match or ()):
            return web.Response(status=304, headers={"ETag": response.headers["ETag"]})
        return response

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if not self._is_client(request.headers.get("Authorization", ""), form):
            headers = {"WWW-Authenticate": 'Basic realm="token"'}
            return web.json_response({"error": "invalid_client"}, status=401, headers=headers)
        if form.get("grant_type") != "client_credentials":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        scope = str(form.get("scope", "read:pets"))
        if not set(scope.split()).issubset(SCOPES):
            return web.json_response({"error": "invalid_scope"}, status=400)
        token = sign(self.claims(CLIENT_ID, scope), self._current["RS256"])
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME, "scope": scope}
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    async def _mint(self, request: web.Request) -> web.Response:
        """Any claims over the usual ones; null takes a claim away."""
        try:
            wanted = strict_json.parse_object(await request.read())
            key = self._current[str(wanted.get("alg", "RS256"))]
            claims = {**self.claims(CLIENT_ID, "read:pets"), **wanted.get("claims", {})}
        except (ValueError, KeyError, TypeError) as error:
            return web.json_response({"error": "invalid_request", "error_description": str(error)}, status=400)
        token = sign({name: value for name, value in claims.items() if value is not None}, key)
        return web.json_response({"access_token": token}, headers={"Cache-Control": "no-store"})

    async def _rotate(self, request: web.Request) -> web.Response:
        """New keys sign from now on. The old ones stay published for one rotation, or with ``?forget`` not at all."""
        self._previous = {} if "forget" in request.query else self._current
        self._current = {algorithm: new_key(algorithm) for algorithm in ALGORITHMS}
        return web.json_response({"kids": {algorithm: key.kid for algorithm, key in self._current.items()}})

    def _is_client(self, authorization: str, form: Mapping[str, Any]) -> bool:
        """``client_secret_basic`` or ``client_secret_post`` (RFC 6749 §2.3.1)."""
        name, secret = str(form.get("client_id", "")), str(form.get("client_secret", ""))
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                name, _, secret = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return False
            name, secret = unquote_plus(name), unquote_plus(secret)
        return name == CLIENT_ID and hmac.compare_digest(secret.encode(), self.client_secret.encode())
