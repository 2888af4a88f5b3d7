"""``/introspect``: what OAuth clients and gateways already speak (RFC 7662).

The one surface whose 200 is no allow: RFC 7662 §2.2 answers 200 for a token that is not active, and clients
take anything else for an error. The decision is in ``active``.
"""

from collections.abc import Sequence
from typing import Any

from verifier.core.reasons import Family
from verifier.core.verdict import Allowed, Denied, Principal, Verdict
from verifier.engine import Question
from verifier.surfaces import answer, body, openapi
from verifier.surfaces.surface import Answer, Asked, Endpoint, Request, Surface

_FORM = "application/x-www-form-urlencoded"


def read(request: Request) -> Asked:
    fields = body.form(request.body)
    if isinstance(fields, Denied):
        return fields
    if not fields.get("token"):
        return body.malformed("the form has no token")
    return (Question(token=fields["token"]),)


def write(verdicts: Sequence[Verdict]) -> Answer:
    verdict = verdicts[0]
    if isinstance(verdict, Allowed):  # of a token alone, so there is a principal
        active = {"active": False} if verdict.principal is None else _active(verdict.principal)
        return answer.as_json(200, active)
    if verdict.family in (Family.INVALID_TOKEN, Family.INSUFFICIENT):
        return answer.as_json(200, {"active": False})
    return answer.refusal(verdict)


def _active(principal: Principal) -> dict[str, Any]:
    """Members of RFC 7662 §2.2 over the token's own claims, so that none of them can pose as a member."""
    members = {
        **principal.claims,
        "active": True,
        "iss": principal.issuer,
        "sub": principal.subject,
        "client_id": principal.client_id,
        "scope": " ".join(principal.scopes),
        "token_type": "Bearer",
    }
    return {name: value for name, value in members.items() if value is not None}


SURFACE = Surface(
    name="introspect",
    endpoints=(
        Endpoint(
            path="/introspect",
            methods=("POST",),
            content_type=_FORM,
            read=read,
            write=write,
            openapi={
                "summary": "Introspect a token (RFC 7662)",
                "requestBody": openapi.body(
                    _FORM,
                    {
                        "type": "object",
                        "required": ["token"],
                        "properties": {"token": {"type": "string"}, "token_type_hint": {"type": "string"}},
                    },
                ),
                "responses": {
                    "200": {
                        "description": "Whether the token is active; a token that is not says only that",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["active"],
                                    "properties": {"active": {"type": "boolean"}},
                                }
                            }
                        },
                    },
                    **openapi.PROBLEMS_OF_BODIES,
                    "503": openapi.problem("No decision now"),
                },
            },
        ),
    ),
)
