"""Two texts that should be equal and nearly are: what a person overlooks, put into words."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest

CLOSE = 0.8
"""Share of common characters from which two texts are taken for the same thing mistyped."""

LONGEST = 160
"""Characters of a text that is looked at: it may be somebody's who wants us to be busy."""

SEVERAL = "more than one of white space, slash, scheme and case differs"

SHOWN = 4
"""Texts that are named where one of many was expected."""

MOST = 16
"""Texts of one token that are."""


def explain(expected: Iterable[str], found: str) -> str | None:
    """Name the difference between ``found`` and the closest of ``expected``; None where none is close."""
    if len(found) > LONGEST:
        return None
    close = [(text, likeness) for text in expected if (likeness := _likeness(text, found)) >= CLOSE]
    if not close:
        return None
    closest = max(close, key=lambda pair: pair[1])[0]
    return None if closest == found else f"{_kind(closest, found)}: {_first_difference(closest, found)}"


def folded(expected: Iterable[str]) -> Mapping[str, str]:
    """What ``slip`` looks texts up in: each of ``expected`` under what is left of it without what people overlook."""
    return {_folded(text): text for text in expected}


def slip(expected: Mapping[str, str], found: Sequence[str]) -> str | None:
    """Which of the ``folded`` texts one of ``found`` is meant to be, and what was overlooked; None where none is close.

    Takes no longer for a text that somebody made up, and shows nothing of it.
    """
    for text in found[:MOST]:
        meant = expected.get(_folded(text)) if len(text) <= LONGEST else None
        if meant is not None and meant != text:
            return f"{meant!r} may be meant: {_kind(meant, text, SEVERAL)}"
    return None


def listed(texts: Iterable[str]) -> str:
    """What of ``texts`` was expected, in a few words."""
    ordered = sorted(texts)
    shown, more = ordered[:SHOWN], len(ordered) - SHOWN
    return f"expected {' or '.join(map(repr, shown))}{f', or one of {more} more' if more > 0 else ''}"


def _likeness(one: str, other: str) -> float:
    if _folded(one) == _folded(other):
        return 1.0
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _folded(text: str) -> str:
    return text.strip().rstrip("/").lower().replace("http://", "https://")


def _kind(expected: str, found: str, otherwise: str | None = None) -> str:
    if found.strip() == expected.strip():
        return "white space around it differs"
    if found + "/" == expected:
        return "the slash at its end is missing"
    if found == expected + "/":
        return "it has a slash at its end that is not expected"
    if found.replace("http://", "https://", 1) == expected or found == expected.replace("http://", "https://", 1):
        return "http and https are mixed up"
    if found.lower() == expected.lower():
        return "upper and lower case differ"
    return otherwise or f"close to {expected!r}"


def _first_difference(expected: str, found: str) -> str:
    pairs = enumerate(zip_longest(expected, found), start=1)
    position, (wanted, got) = next((place, pair) for place, pair in pairs if pair[0] != pair[1])
    return f"character {position} should be {_show(wanted)} and is {_show(got)}"


def _show(char: str | None) -> str:
    return "the end" if char is None else repr(char)
