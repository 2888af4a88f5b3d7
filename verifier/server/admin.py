"""``/admin`` on the ops port: the list of revocations, for whoever has the admin token."""

import uuid
from collections.abc import Callable
from http import HTTPStatus
from time import time
from typing import Any

from verifier.core import strict_json
from verifier.core.issuer import Issuers
from verifier.core.revocation import Kind, Revocation
from verifier.core.revoking import revocation
from verifier.observability.observer import Observer
from verifier.ports import SourceUnavailable
from verifier.server.admin_token import AdminToken
from verifier.server.http import Handler, Route, Routes
from verifier.store.revocations import RevocationList, RevocationsFull
from verifier.surfaces import answer
from verifier.surfaces.surface import Answer, Request

PATH = "/admin/revocations"
_NO_CONTENT = Answer(HTTPStatus.NO_CONTENT, (("Cache-Control", "no-store"),), b"")


class Admin:
    """``token_file`` is read for each request, so that a new token is noticed. ``keep`` is in seconds."""

    def __init__(
        self,
        token: AdminToken,
        revocations: RevocationList,
        issuers: Callable[[], Issuers],
        keep: float,
        observer: Observer,
    ) -> None:
        self._token = token
        self._revocations = revocations
        self._issuers = issuers
        self._keep = keep
        self._observer = observer

    def routes(self) -> Routes:
        reading = self._guarded(self._list)
        return {
            PATH: {
                "GET": Route(reading),
                "HEAD": Route(reading),
                "POST": Route(self._guarded(self._revoke), "application/json"),
            },
            f"{PATH}/": {"DELETE": Route(self._guarded(self._lift))},
        }

    def _guarded(self, handle: Handler) -> Handler:
        """``handle`` for whoever has the token, and for nobody when the token cannot be read."""

        async def guard(request: Request) -> Answer:
            refusal = await self._token.refusal(request)
            if refusal is not None:
                return refusal
            try:
                return await handle(request)
            except SourceUnavailable as outage:
                retry = ("Retry-After", "1")
                return answer.http_error(
                    503, f"Redis did not confirm it: list the revocations, or try again ({outage})", retry
                )

        return guard

    async def _list(self, _request: Request) -> Answer:
        held = [one for one in self._revocations.held if one.expires_at > time()]
        newest_first = sorted(held, key=lambda one: one.made_at, reverse=True)
        shown = [self._shown(one) for one in newest_first]
        return answer.as_json(200, {"shared": self._revocations.shared, "revocations": shown})

    async def _revoke(self, request: Request) -> Answer:
        try:
            asked = strict_json.parse_object(request.body)
            made = revocation(asked, self._issuers(), new_id=uuid.uuid4().hex, now=time(), keep=self._keep)
        except ValueError as error:
            return answer.http_error(400, str(error))
        try:
            await self._revocations.revoke(made)
        except RevocationsFull:
            return answer.http_error(507, "the list is full: see revocations.max_entries")
        self._observer.revoked(made)
        return answer.as_json(201, self._shown(made), ("Location", f"{PATH}/{made.id}"))

    async def _lift(self, request: Request) -> Answer:
        revocation_id = request.path.removeprefix(f"{PATH}/")
        if not await self._revocations.lift(revocation_id):
            return answer.http_error(404, "there is no such revocation")
        self._observer.lifted(revocation_id)
        return _NO_CONTENT

    def _shown(self, made: Revocation) -> dict[str, Any]:
        name = "token_sha256" if made.kind is Kind.CONTENT else str(made.kind)
        return {
            "id": made.id,
            "issuers": made.issuers,
            name: made.value,
            "reason": made.reason,
            "made_at": made.made_at,
            "expires_at": made.expires_at,
            "shared": self._revocations.shared,
        }
