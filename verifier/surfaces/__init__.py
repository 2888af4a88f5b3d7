"""How callers ask: one kind of caller a file, each with a constant ``SURFACE``.

A surface reads a request into questions and writes verdicts into an answer. Both are plain functions on plain
values: no socket, no framework, no clock. A file that is put here is served; nothing else has to name it.
``ext_authz_grpc`` is not: it speaks another protocol, on a port of its own.
"""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from verifier.surfaces.surface import Surface

_PARTS = frozenset(
    {
        "answer",
        "aws_answer",
        "aws_context",
        "aws_event",
        "body",
        "ext_authz_grpc",
        "ext_authz_messages",
        "forwarded",
        "identity_headers",
        "openapi",
        "surface",
    }
)


@cache
def surfaces() -> tuple[Surface, ...]:
    """Every surface, by name."""
    names = sorted(module.name for module in iter_modules(__path__) if module.name not in _PARTS)
    return tuple(import_module(f"{__name__}.{name}").SURFACE for name in names)
