"""``/verify/batch``: up to a hundred questions at once, each answered by itself."""

from collections.abc import Sequence

from verifier.core import challenge
from verifier.core.verdict import Allowed, Denied, Verdict
from verifier.surfaces import answer, body, openapi
from verifier.surfaces.surface import Answer, Asked, Endpoint, Request, Surface

MAX_REQUESTS = 100


def read(request: Request) -> Asked:
    members = body.json_object(request.body)
    if isinstance(members, Denied):
        return members
    asked = members.get("requests")
    if set(members) != {"requests"} or not isinstance(asked, list) or not 1 <= len(asked) <= MAX_REQUESTS:
        return body.malformed(f"expected an object with requests, an array of 1 to {MAX_REQUESTS} objects")
    return [body.question(item) for item in asked]


def write(verdicts: Sequence[Verdict]) -> Answer:
    return answer.as_json(200, {"results": [_result(verdict) for verdict in verdicts]})


def _result(verdict: Verdict) -> dict[str, object]:
    if isinstance(verdict, Allowed):
        return {"status": 200, **answer.allowed(verdict.principal)}
    return challenge.problem(verdict)


SURFACE = Surface(
    name="batch",
    endpoints=(
        Endpoint(
            path="/verify/batch",
            methods=("POST",),
            content_type="application/json",
            read=read,
            write=write,
            openapi={
                "summary": "Verify up to a hundred tokens; the status of each is in its result",
                "requestBody": openapi.body(
                    "application/json",
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["requests"],
                        "properties": {
                            "requests": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": MAX_REQUESTS,
                                "items": body.QUESTION_SCHEMA,
                            }
                        },
                    },
                ),
                "responses": {
                    "200": {
                        "description": "One result for each request, in order",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["results"],
                                    "properties": {
                                        "results": {
                                            "type": "array",
                                            "items": {"type": "object", "required": ["status", "allowed"]},
                                        }
                                    },
                                }
                            }
                        },
                    },
                    **openapi.PROBLEMS_OF_BODIES,
                },
            },
        ),
    ),
)
