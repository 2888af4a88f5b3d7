"""``/verify``: one token. By GET in the header alone, by POST with what the request demands of it."""

from collections.abc import Sequence

from verifier.core.verdict import Denied, Verdict
from verifier.engine import Question
from verifier.surfaces import answer, body, openapi
from verifier.surfaces.surface import Answer, Asked, Endpoint, Request, Surface


def read_header(request: Request) -> Asked:
    return (Question(request.values("authorization")),)


def read_body(request: Request) -> Asked:
    members = body.json_object(request.body)
    if isinstance(members, Denied):
        return members
    return (body.question(members, request.values("authorization")),)


def write(verdicts: Sequence[Verdict]) -> Answer:
    return answer.decision(verdicts[0])


SURFACE = Surface(
    name="verify",
    endpoints=(
        Endpoint(
            path="/verify",
            methods=("GET", "HEAD"),
            content_type=None,
            read=read_header,
            write=write,
            asks_token_only=True,
            openapi={
                "summary": "Verify the token of the Authorization header",
                "security": [{"bearer": []}],
                "responses": openapi.decision_responses("Allow"),
            },
        ),
        Endpoint(
            path="/verify",
            methods=("POST",),
            content_type="application/json",
            read=read_body,
            write=write,
            openapi={
                "summary": "Verify a token against the demands of a request",
                "security": [{}, {"bearer": []}],
                "requestBody": openapi.body("application/json", body.QUESTION_SCHEMA),
                "responses": openapi.decision_responses("Allow"),
            },
        ),
    ),
)
