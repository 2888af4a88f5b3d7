"""``traceparent``: the trace that a request belongs to (W3C Trace Context §3.2). Pure."""

import re
from typing import NamedTuple

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 0x01
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class TraceParent(NamedTuple):
    """The ids are in lower-case hexadecimal."""

    trace_id: str
    span_id: str
    flags: int

    @property
    def is_sampled(self) -> bool:
        """Whether whoever began the trace may have kept it."""
        return bool(self.flags & _SAMPLED)

    @property
    def sampled_trace_id(self) -> str | None:
        """None where nobody has kept it so far."""
        return self.trace_id if self.flags & _SAMPLED else None


def parse(text: str) -> TraceParent | None:
    """What the header says; None where it is not valid.

    Version 00 has four fields and no more, ``ff`` is none, and of a later one the first four are read as those of 00.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceParent(trace_id, span_id, int(flags, 16))
