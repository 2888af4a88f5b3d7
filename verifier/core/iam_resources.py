"""Resources of IAM policies, as IAM matches them, and as patterns of segments.

In a resource, ``*`` is any text, slashes and nothing included, and ``?`` any one character. What is drawn up here uses
them in two ways alone: for one segment or more, and for all that follows a slash.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

SOME: Final = "?*"
"""One segment or more."""

ALL: Final = "*"
"""At the end: whatever follows the slash, and nothing."""

Resource = tuple[str, ...]
"""What follows API and stage in an ARN: method and segments, with ``SOME`` and ``ALL`` for wildcards. An empty last one
is a last slash."""


def written(resource: Resource) -> str:
    """As it stands in a policy."""
    method, *path = resource
    return "/".join(["*" if method == SOME and path else method, *path])


def covers(pattern: str, resource: str) -> bool:
    """Whether IAM takes the one, as it stands in a policy, for the other.

    Where it fails, it goes on from the last ``*`` and never from one before: with a regular expression a client could
    choose a path that takes minutes.
    """
    at, retry, star = 0, 0, -1
    place = 0
    while at < len(resource):
        wanted = pattern[place] if place < len(pattern) else None
        if wanted == "*":
            star, retry = place, at
            place += 1
        elif wanted in ("?", resource[at]):
            place += 1
            at += 1
        elif star >= 0:
            retry += 1
            place, at = star + 1, retry
        else:
            return False
    return pattern[place:].strip("*") == ""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a resource, by its index, is matched. ``repeats``: its wildcard at ``place`` has matched something."""

    index: int
    place: int = 0
    repeats: bool = False

    def expected(self, resources: Sequence[Resource]) -> str | None:
        """What has to match next; None at the end."""
        resource = resources[self.index]
        return resource[self.place] if self.place < len(resource) else None


class Moves:
    """Where ``positions`` go with another segment."""

    def __init__(self, positions: Iterable[Position], resources: Sequence[Resource]) -> None:
        by_any: set[Position] = set()
        self._by: dict[str | None, set[Position]] = {}
        for one in positions:
            expected = one.expected(resources)
            ahead = Position(one.index, one.place + 1)
            if expected in (SOME, ALL):
                by_any.add(Position(one.index, one.place, repeats=True))
            (by_any if expected == SOME else self._by.setdefault(expected, set())).add(ahead)
        self._by_any = frozenset(by_any)

    def by(self, segment: str) -> frozenset[Position]:
        return self._by_any.union(self._by.get(segment, ()))


def named(positions: Iterable[Position], resources: Sequence[Resource]) -> set[str]:
    """The segments that the resources tell from others here."""
    expected = (one.expected(resources) for one in positions)
    return {one for one in expected if one and one not in (SOME, ALL)}


def matched(positions: Iterable[Position], resources: Sequence[Resource], *, has_last_slash: bool) -> frozenset[int]:
    """The resources, by their index, that match a path that ends here."""
    return frozenset(one.index for one in positions if _ends(one, resources, has_last_slash=has_last_slash))


def _ends(one: Position, resources: Sequence[Resource], *, has_last_slash: bool) -> bool:
    expected = one.expected(resources)
    if one.repeats:
        return expected == ALL or (has_last_slash and one.place == len(resources[one.index]) - 1)
    return expected in ("", ALL) if has_last_slash else expected is None


def matches(resource: Resource, segments: Iterable[str], *, has_last_slash: bool) -> bool:
    """Whether ``resource`` matches the path of ``segments``, the method being the first."""
    positions = frozenset([Position(0)])
    for segment in segments:
        positions = Moves(positions, (resource,)).by(segment)
    return bool(matched(positions, (resource,), has_last_slash=has_last_slash))
