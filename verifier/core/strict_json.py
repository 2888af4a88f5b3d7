"""JSON that can be read in one way only.

Python's parser takes the last of repeated names, accepts NaN, UTF-16 and a byte order mark, and recurses
as deep as the input asks. Two readers that disagree about a document are how a signature check is
bypassed, so whatever RFC 8259 §4 or RFC 7493 calls ambiguous is refused here.
"""

import json
import math
import re
from typing import Any

MAX_DEPTH = 32
"""Objects and arrays inside each other. Real tokens stay under ten."""

MAX_BRACKETS = 10_000
"""Objects and arrays in all: what looking for depth may cost. A key set has one a key."""

# A string. The closing quote is optional and the loop possessive, so that an unfinished string is passed over
# once and not tried again from each of its quotes.
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def parse(raw: bytes) -> Any:
    """Return the value of the JSON text ``raw``.

    Raises ``ValueError`` for anything but UTF-8 without a byte order mark, a repeated member name, NaN or
    Infinity (written out or by overflow), an unpaired surrogate, or nesting beyond ``MAX_DEPTH``.
    """
    text = raw.decode("utf-8")  # UnicodeDecodeError is a ValueError
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _refuse_deep_nesting(raw)
    value = _value(text)
    if b"\\u" in raw:
        _refuse_unpaired_surrogates(value)
    return value


def parse_object(raw: bytes) -> dict[str, Any]:
    """Like ``parse``, and the value must be an object."""
    value = parse(raw)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _value(text: str) -> Any:
    if text[:1] == "{":  # what tokens are made of; without white space around it, nothing has to be looked for
        value, end = _DECODER.raw_decode(text)
        if end == len(text):
            return value
    return _DECODER.decode(text)  # a byte order mark is no JSON white space, so it fails here


def _refuse_deep_nesting(raw: bytes) -> None:
    """Found without recursion, and before the recursive parser sees it. What stands in strings does not count."""
    brackets = _STRINGS.sub(b"", raw).translate(None, _ALL_BUT_BRACKETS)
    if len(brackets) > 2 * MAX_BRACKETS:
        raise ValueError("too many arrays and objects")
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError("nested too deep")


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("repeated member name")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _refuse_unpaired_surrogates(value: Any) -> None:
    # An unpaired surrogate cannot be written as UTF-8 again: it would break the answer, not the request.
    json.dumps(value, ensure_ascii=False).encode("utf-8")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_members, parse_float=_finite, parse_constant=_no_constant)
