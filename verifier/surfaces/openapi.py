"""The OpenAPI document, put together from what each surface says of itself."""

from collections.abc import Iterable, Mapping
from typing import Any

from verifier import __version__
from verifier.core.reasons import Reason
from verifier.surfaces.surface import ANY, Surface

_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "allowed"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "allowed": {"const": False},
        "reason": {"enum": [str(reason) for reason in Reason]},
    },
}

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Those that OpenAPI has a word for, of an endpoint that takes any."""

_REST = {"name": "path", "in": "path", "required": True, "schema": {"type": "string"}}

_NULLABLE_TEXT = {"type": ["string", "null"]}
_TEXTS = {"type": "array", "items": {"type": "string"}}

_ALLOWED_SCHEMA = {
    "type": "object",
    "required": ["allowed", "principal"],
    "properties": {
        "allowed": {"const": True},
        "principal": {
            "type": ["object", "null"],
            "properties": {
                "issuer": {"type": "string"},
                "issuer_name": {"type": "string"},
                "subject": _NULLABLE_TEXT,
                "client_id": _NULLABLE_TEXT,
                "scopes": _TEXTS,
                "audiences": _TEXTS,
                "expires_at": {"type": "number", "description": "Seconds since 1970."},
                "token_id": _NULLABLE_TEXT,
                "claims": {"type": "object"},
            },
        },
    },
}


def body(content_type: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A mandatory request body (Request Body Object)."""
    return {"required": True, "content": {content_type: {"schema": schema}}}


def problem(description: str) -> Mapping[str, Any]:
    """An answer in the form of RFC 9457 (Response Object)."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


def json_answer(description: str) -> Mapping[str, Any]:
    """An answer in JSON whose form is another's (Response Object)."""
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}


PROBLEMS_OF_BODIES: Mapping[str, Any] = {
    "400": problem("The request is ambiguous or malformed"),
    "413": problem("The body is too large"),
    "415": problem("The body is of another content type"),
}


def decision_responses(description: str) -> Mapping[str, Any]:
    """The answers to a single question."""
    schema = {"$ref": "#/components/schemas/Allowed"}
    return {
        "200": {"description": description, "content": {"application/json": {"schema": schema}}},
        **PROBLEMS_OF_BODIES,
        "401": problem("Deny: no token, or one that is not accepted"),
        "403": problem("Deny: the token does not permit this"),
        "503": problem("No decision now; see Retry-After"),
    }


def _written(path: str) -> str:
    """A path that stands for all that begin with it, as OpenAPI writes it."""
    return f"{path}{{path}}" if path.endswith("/") else path


def document(surfaces: Iterable[Surface]) -> Mapping[str, Any]:
    """The whole document (OpenAPI 3.1)."""
    paths: dict[str, dict[str, Any]] = {}
    for surface in surfaces:
        for endpoint in surface.endpoints:
            for method in _METHODS if endpoint.methods == ANY else endpoint.methods:
                operation = {"operationId": f"{surface.name}_{method.lower()}", **endpoint.openapi}
                if endpoint.path.endswith("/"):
                    operation["parameters"] = [_REST]
                paths.setdefault(_written(endpoint.path), {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Token verifier",
            "version": __version__,
            "description": "Answers whether a bearer token is good. The status is the decision. Where callers are"
            " configured, each request shows a secret in the header X-Verifier-Secret, or gets 403 without a reason.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM_SCHEMA, "Allowed": _ALLOWED_SCHEMA},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }
