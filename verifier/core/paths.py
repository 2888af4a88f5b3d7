"""One reading of a request's path, for every surface (RFC 3986 §6.2.2).

Gateways and services disagree about some spellings: one decodes ``%2F``, another merges slashes, a third cuts at
``;``. What is judged must be what is served, so a path that two of them could read differently is refused, unless
its form was permitted by name. Everything else is normalised once, here, and nowhere else.
"""

import re
from collections.abc import Set
from enum import StrEnum

from verifier.core.reasons import Reason, Rejected


class Form(StrEnum):
    """Spellings that are read in more than one way, and that can be permitted."""

    DOT_SEGMENTS = "dot_segments"  # /a/../b: read as /b; many services serve it below /a
    LETTER_CASE = "letter_case"  # a path that only another case keeps from a route: read as it stands
    ENCODED_SLASH = "encoded_slash"  # %2F: read as part of its segment
    BACKSLASH = "backslash"  # \ or %5C: likewise
    ENCODED_DOTS = "encoded_dots"  # %2E%2E: read as the dots that it stands for
    ENCODED_PERCENT = "encoded_percent"  # %25: decoded once
    PARAMETERS = "parameters"  # ;v=1 or %3B: left out of its segment
    REPEATED_SLASHES = "repeated_slashes"  # read as one
    FRAGMENT = "fragment"  # #: what follows is left out
    INVALID_PERCENT = "invalid_percent"  # a % that encodes nothing: read as itself
    INVALID_UTF8 = "invalid_utf8"  # read as the bytes that they are


_SPELLED = {
    Form.DOT_SEGMENTS: "dot segments",
    Form.LETTER_CASE: "letters in another case than a route",
    Form.ENCODED_SLASH: "an encoded slash (%2F)",
    Form.BACKSLASH: "a backslash",
    Form.ENCODED_DOTS: "encoded dots (%2E)",
    Form.ENCODED_PERCENT: "an encoded percent sign (%25)",
    Form.PARAMETERS: "parameters (;)",
    Form.REPEATED_SLASHES: "repeated slashes",
    Form.FRAGMENT: "a fragment (#)",
    Form.INVALID_PERCENT: "a percent sign that encodes nothing",
    Form.INVALID_UTF8: "bytes that are no UTF-8",
}

_ENCODED_AS = {0x2F: Form.ENCODED_SLASH, 0x5C: Form.BACKSLASH, 0x25: Form.ENCODED_PERCENT, 0x3B: Form.PARAMETERS}

_ABSOLUTE = re.compile(r"https?://([^/]*)", re.ASCII | re.IGNORECASE)
_OCTET = re.compile(r"%([0-9A-Fa-f]{2})", re.ASCII)
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)
_SEPARATORS = re.compile(r"[/\\;]")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]", re.ASCII)
_PORT = re.compile(r":[0-9]*\Z", re.ASCII)


def split(target: str) -> tuple[str | None, str]:
    """The authority of an absolute-form target, or None; and the path, without the query (RFC 9112 §3.2).

    The authority ends at a slash and nowhere else: gateways put one together of what a client sent as its host.
    """
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return None, target.partition("?")[0]
    return absolute.group(1), target[absolute.end() :].partition("?")[0]


def segments(path: str, permitted: Set[Form] = frozenset()) -> tuple[str, ...]:
    """The decoded segments of ``path``: without dot segments, and without the empty one that a last slash leaves.

    Raises ``Rejected``: ``route_denied``, where the path can be read in another way too.
    """
    if not path.startswith("/"):
        raise Rejected(Reason.ROUTE_DENIED, "the path does not begin with a slash")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise Rejected(Reason.ROUTE_DENIED, "the path has characters that must be percent-encoded")
    if "\\" in path:
        _permit(Form.BACKSLASH, permitted)
    *parents, last = _before(path, "#", Form.FRAGMENT, permitted)[1:].split("/")
    read: list[str] = []
    has_dots = False
    for raw in (*parents, last):
        segment = _segment(raw, permitted)
        if segment in (".", ".."):
            has_dots = True
            del read[len(read) - (segment == "..") :]
        elif segment:
            read.append(segment)
    if "" in parents:
        _permit(Form.REPEATED_SLASHES, permitted)
        if has_dots:  # it depends on what comes first
            raise Rejected(Reason.ROUTE_DENIED, "the path has dot segments and repeated slashes")
    return tuple(read)


def is_told_alike(whole: str, end: str) -> bool:
    """Whether ``end`` and the last segments of ``whole`` are two spellings of one path. Where ``end`` cannot be read,
    it is refused anyway."""
    try:
        wanted = segments(end, frozenset(Form))
    except Rejected:
        return True
    try:
        told = segments(whole, frozenset(Form))
    except Rejected:
        return False
    return told[len(told) - len(wanted) :] == wanted


def host(authority: str) -> str:
    """The host of ``authority``, as hosts are compared: in lower case, without port and final dot.

    Raises ``Rejected``: ``route_denied``.
    """
    name = _PORT.sub("", authority.lower()).removesuffix(".") if authority.isascii() else ""
    if _HOST.fullmatch(name) is None:
        raise Rejected(Reason.ROUTE_DENIED, "the host is not the name or the address of one")
    return name


def _segment(raw: str, permitted: Set[Form]) -> str:
    """One segment, its octets decoded once, without parameters."""
    whole = _decoded(raw, permitted)
    parts = _SEPARATORS.split(whole)
    if len(parts) > 1 and {".", ".."}.intersection(parts):  # however these are permitted to be read
        raise Rejected(Reason.ROUTE_DENIED, "the path has dots beside a semicolon, a backslash or an encoded slash")
    segment = _before(whole, ";", Form.PARAMETERS, permitted)
    if segment in (".", ".."):
        _permit(Form.ENCODED_DOTS if "%" in raw else Form.DOT_SEGMENTS, permitted)
    return segment


def _decoded(raw: str, permitted: Set[Form]) -> str:
    if "%" not in raw:
        return raw
    if _STRAY_PERCENT.search(raw):
        _permit(Form.INVALID_PERCENT, permitted)
    for octet in {int(found, 16) for found in _OCTET.findall(raw)}:
        if octet < 0x20 or octet == 0x7F:
            raise Rejected(Reason.ROUTE_DENIED, "the path has an encoded control character")
        if octet in _ENCODED_AS:
            _permit(_ENCODED_AS[octet], permitted)
    octets = _OCTET.sub(lambda found: chr(int(found.group(1), 16)), raw).encode("latin-1")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        _permit(Form.INVALID_UTF8, permitted)
        return octets.decode("utf-8", "surrogateescape")


def _before(text: str, mark: str, form: Form, permitted: Set[Form]) -> str:
    kept, found, _ = text.partition(mark)
    if found:
        _permit(form, permitted)
    return kept


def _permit(form: Form, permitted: Set[Form]) -> None:
    if form not in permitted:
        raise Rejected(Reason.ROUTE_DENIED, f"the path has {_SPELLED[form]}, which is read in more than one way")
