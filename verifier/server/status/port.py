"""``/status`` and ``/status/explain``, as pages and as JSON.

Rules of this module:

* What ``/status`` shows needs no token, as ``/metrics`` and ``/readyz`` do not: it holds what they and the log say.
* A token is explained to whoever shows the admin token, and to nobody where there is none. That token comes in the
  body, or in ``Authorization`` for JSON, and never by itself as a cookie would: another site that has a browser post
  the form does not know it, so nothing has to keep that from happening.
* Neither token leaves the request: no page shows it, and no address, log or metric has it.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from time import time
from typing import Any

from prometheus_client import Metric

from verifier.core import bearer
from verifier.core.issuer import Issuers
from verifier.core.verdict import Denied
from verifier.engine import Question
from verifier.observability.recent import Noted
from verifier.remote.http import in_file_thread
from verifier.server import readiness
from verifier.server.admin_token import CHALLENGE, AdminToken, AdminTokenUnreadable
from verifier.server.http import Route, Routes
from verifier.server.status import page
from verifier.server.status.explaining import Explained
from verifier.server.status.gathering import Facts, as_json, status
from verifier.server.status.model import Status
from verifier.surfaces import answer, body
from verifier.surfaces.surface import Answer, Request

PATH = "/status"
_FORM = "application/x-www-form-urlencoded"
_FIELDS = ("token", "method", "host", "path")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the facts come from: one process, or all of a supervisor's. Asked anew for each page, so that a new
    configuration shows.

    ``shared``: whether revocations are those of all replicas. ``explain`` answers None where nobody can now.
    """

    families: Callable[[], Awaitable[Iterable[Metric]]]
    state: Callable[[], Awaitable[readiness.State]]
    noted: Callable[[], Noted]
    issuers: Callable[[], Issuers]
    shared: Callable[[], bool]
    explain: Callable[[Question], Awaitable[Explained | None]]
    admin_token: AdminToken | None


def routes(source: Source) -> Routes:
    """Those of ``source``, which starts now."""
    port = _Port(source, time())
    reading = {path: Route(handle) for path, handle in ((PATH, port.page), (f"{PATH}.json", port.json))}
    asking = Route(port.form)
    return {
        **{path: {"GET": route, "HEAD": route} for path, route in reading.items()},
        f"{PATH}/explain": {"GET": asking, "HEAD": asking, "POST": Route(port.explain_form, _FORM)},
        f"{PATH}/explain.json": {"POST": Route(port.explain_json, "application/json")},
    }


def prefers_json(accept: Iterable[str]) -> bool:
    """Whether ``Accept`` (RFC 9110 §12.5.1) would rather have JSON than a page."""
    ranges = [part.strip() for part in ",".join(accept).lower().split(",")]
    return _quality(ranges, "application", "json") > _quality(ranges, "text", "html")


def _quality(ranges: Iterable[str], kind: str, subtype: str) -> float:
    """That of the range that says most about it. 0 where none does, or it cannot be read."""
    said: dict[str, float] = {}
    for one in ranges:
        media, *parameters = (part.strip() for part in one.split(";"))
        weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
        try:
            said[media] = float(weights[0]) if weights else 1.0
        except ValueError:
            said[media] = 0.0
    return next((said[one] for one in (f"{kind}/{subtype}", f"{kind}/*", "*/*") if one in said), 0.0)


class _Port:
    def __init__(self, source: Source, started_at: float) -> None:
        self._source = source
        self._started_at = started_at

    async def page(self, request: Request) -> Answer:
        if prefers_json(request.values("accept")):
            return _with(await self.json(request), ("Vary", "Accept"))
        # Apart from the loop: the first page compiles its template.
        explains = self._source.admin_token is not None
        return await in_file_thread(partial(page.status_page, await self._status(), explains=explains))

    async def json(self, _request: Request) -> Answer:
        return answer.as_json(200, as_json(await self._status()))

    async def form(self, _request: Request) -> Answer:
        if self._source.admin_token is None:
            return await _refusal(404, _NO_ADMIN_TOKEN)
        return await in_file_thread(page.explain_page)

    async def explain_form(self, request: Request) -> Answer:
        fields = body.form(request.body)
        given = {} if isinstance(fields, Denied) else {name: value.strip() for name, value in fields.items()}
        token = self._source.admin_token
        if token is None:
            return await _refusal(404, _NO_ADMIN_TOKEN)
        try:
            if not await token.is_shown(given.get("admin", "")):
                return await _refusal(401, "That is not the admin token.")
        except AdminTokenUnreadable:
            return await _refusal(503, "The admin token cannot be read.")
        question = _question({name: given[name] for name in _FIELDS if given.get(name)})
        if isinstance(question, Denied):
            return await _refusal(400, f"It cannot be explained: {question.detail}.")
        explained = await self._source.explain(question)
        if explained is None:
            return await _refusal(503, "Nobody can explain it now: try again.")
        return await in_file_thread(page.explain_page, explained)

    async def explain_json(self, request: Request) -> Answer:
        token = self._source.admin_token
        if token is None:
            return answer.http_error(404, "set ops.admin_token_file, and tokens can be explained here")
        refusal = await token.refusal(request)
        if refusal is not None:
            return refusal
        members = body.json_object(request.body)
        question = members if isinstance(members, Denied) else _question(members)
        if isinstance(question, Denied):
            return answer.http_error(400, question.detail)
        explained = await self._source.explain(question)
        if explained is None:
            return answer.http_error(503, "nobody can explain it now", ("Retry-After", "1"))
        return answer.as_json(200, asdict(explained))

    async def _status(self) -> Status:
        families, state = tuple(await self._source.families()), await self._source.state()
        facts = Facts(
            families=families,
            state=state,
            noted=self._source.noted(),
            issuers=tuple(self._source.issuers()),
            shared=self._source.shared(),
            started_at=self._started_at,
        )
        return status(facts, time())


_NO_ADMIN_TOKEN = "Set ops.admin_token_file, and tokens can be explained here."  # noqa: S105 - no secret


def _question(members: dict[str, Any]) -> Question | Denied:
    """What ``POST /verify`` takes, of a token that a person pasted."""
    if not isinstance(members.get("token"), str) or not members["token"].strip():
        return body.malformed("there is no token")
    return body.question({**members, "token": bearer.pasted(members["token"])})


async def _refusal(status_code: int, text: str) -> Answer:
    """The form again, with ``text``."""
    headers = (CHALLENGE,) if status_code == 401 else ()
    return await in_file_thread(partial(page.explain_page, status=status_code, message=text, headers=headers))


def _with(made: Answer, *headers: tuple[str, str]) -> Answer:
    return made._replace(headers=(*made.headers, *headers))
