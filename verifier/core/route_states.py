"""The routes of one host, walked segment by segment, to say what applies to whole kinds of paths at once.

``core/routes.py`` says what applies to one request. Here is the same table for those who have to know it all: which
segments it tells from others after some that are known, and where it stops to tell any.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from verifier.core.paths import Form
from verifier.core.routes import Pattern, Routes, methods_of


class TooLarge(Exception):  # noqa: N818 - not an error: whoever asks can do without
    """It would take too long."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Stands for all segments that nothing tells apart. ``is_named``: for ``text`` alone."""

    text: str
    is_named: bool = False


OTHER = Segment("/")
"""What nobody speaks of, as a segment or a method: neither holds a slash, so that no route can name it."""

Grant = str | None
"""The condition under which something is allowed, empty for none; None where it is denied."""

_Place = tuple[int, int]
"""A route, by its index, and how many of its segments are matched."""


@dataclass(frozen=True, slots=True)
class State:
    """Where the table stands after some segments: the routes that may still match, and the first that will whatever
    follows. ``folded`` is the same without regard to the case of letters, where that is looked at."""

    alive: frozenset[_Place]
    found: int | None
    folded: "State | None" = None

    @property
    def is_settled(self) -> bool:
        """Whether the same applies to everything from here on."""
        return not self.alive and (self.folded is None or not self.folded.alive)


class RouteStates:
    """The routes of one host, as somebody may take them (``taken``, in the order of the table; ``default``: what no
    route matches). It goes ``steps`` steps and no further, and raises ``TooLarge`` then, from the first of them on."""

    def __init__(self, routes: Routes, host: str | None, taken: Sequence[bool], *, default: bool, steps: int) -> None:
        self._steps = steps
        applicable = [(route, taken[place]) for place, route in routes.for_host(host)]
        allowed: dict[str | None, list[Pattern]] = {}
        for pattern in (_folded(route.pattern) for route, may in applicable if may):
            allowed.setdefault(_beginning(pattern), []).append(pattern)
        # Where no route means no, a denied route matters only beside those that are allowed.
        relevant = [
            (route, may)
            for route, may in applicable
            if default or may or self._meets_any(_folded(route.pattern), allowed)
        ]
        self._methods = tuple(methods_of(route) for route, _ in relevant)
        self._patterns = tuple(route.pattern for route, _ in relevant)
        self._folded = tuple(map(_folded, self._patterns))
        self._folds = not routes.permits(Form.LETTER_CASE)
        self._grants: tuple[Grant, ...] = tuple(route.condition if may else None for route, may in relevant)
        self._default: Grant = "" if default else None
        self._after: dict[tuple[State, str], State] = {}
        self.methods = frozenset(name for methods in self._methods for name in methods)

    def begin(self, method: str) -> State:
        """The state before the first segment."""
        alive = {(index, 0) for index, methods in enumerate(self._methods) if not methods or method in methods}
        state = _settled(alive, None, self._patterns)
        return _with(state, _settled(alive, None, self._folded)) if self._folds else state

    def after(self, state: State, segment: Segment) -> State:
        """The state after another segment. Raises ``TooLarge``."""
        known = self._after.get((state, segment.text))
        if known is None:
            known = self._step(state, segment.text, self._patterns)
            if state.folded is not None:
                known = _with(known, self._step(state.folded, segment.text.casefold(), self._folded))
            self._after[state, segment.text] = known
        return known

    def grant(self, state: State) -> Grant:
        """What applies to a path that ends here, with or without a last slash."""
        found = _first(state, self._patterns)
        if state.folded is not None and _first(state.folded, self._folded) != found:
            return None
        return self._default if found is None else self._grants[found]

    def segments(self, state: State, also: Iterable[str] = ()) -> tuple[Segment, ...]:
        """One for each kind that the table, or whoever names ``also``, tells from others here, the widest first. Of
        segments that cannot stand in a path as they are, there is none."""
        named = {*_literals(state, self._patterns), *also}
        known = set(named)
        spelled: set[str | None] = set()
        if state.folded is not None:
            known.update(_literals(state.folded, self._folded))
            spelled = {_respelled(name, known) for name in known}
        self.count(1 + len(known))
        return (
            OTHER,
            *(Segment(name) for name in sorted(name for name in spelled if name is not None and _is_plain(name))),
            *(Segment(name, is_named=name in named) for name in sorted(known) if _is_plain(name)),
        )

    def count(self, steps: int) -> None:
        """Raises ``TooLarge`` after too many."""
        self._steps -= steps
        if self._steps < 0:
            raise TooLarge

    def _meets_any(self, pattern: Pattern, others: Mapping[str | None, Sequence[Pattern]]) -> bool:
        """``others`` are by their beginnings."""
        beginning = _beginning(pattern)
        beginnings = others if beginning is None else {beginning, None}.intersection(others)
        candidates = [other for one in beginnings for other in others[one]]
        self.count(len(candidates))
        return any(_meet(pattern, other) for other in candidates)

    def _step(self, state: State, segment: str, patterns: Sequence[Pattern]) -> State:
        self.count(1 + len(state.alive))
        ahead = (
            (index, matched + 1)
            for index, matched in state.alive
            if not _is_through(patterns[index], matched) and patterns[index].segments[matched] in (None, segment)
        )
        return _settled(ahead, state.found, patterns)


def _settled(alive: Iterable[_Place], found: int | None, patterns: Sequence[Pattern]) -> State:
    """Routes that end in ``**`` match from here on, and those after the first that does matter no more."""
    places = tuple(alive)
    open_ended = {(i, matched) for i, matched in places if patterns[i].rest and _is_through(patterns[i], matched)}
    first = min((i for i, _ in open_ended), default=found)
    first = first if found is None or first is None else min(first, found)
    left = (place for place in places if place not in open_ended and (first is None or place[0] < first))
    return State(frozenset(left), first)


def _with(state: State, folded: State) -> State:
    return State(state.alive, state.found, folded)


def _first(state: State, patterns: Sequence[Pattern]) -> int | None:
    here = [index for index, matched in state.alive if _is_through(patterns[index], matched)]
    return min(here if state.found is None else [state.found, *here], default=None)


def _literals(state: State, patterns: Sequence[Pattern]) -> Iterator[str]:
    for index, matched in state.alive:
        literal = None if _is_through(patterns[index], matched) else patterns[index].segments[matched]
        if literal is not None:
            yield literal


def _is_through(pattern: Pattern, matched: int) -> bool:
    return matched == len(pattern.segments)


def _beginning(pattern: Pattern) -> str | None:
    """The first segment; None where it may be any, or none."""
    return pattern.segments[0] if pattern.segments else None


@lru_cache(4_096)
def _folded(pattern: Pattern) -> Pattern:
    return Pattern(tuple(None if one is None else one.casefold() for one in pattern.segments), pattern.rest)


def _meet(one: Pattern, other: Pattern) -> bool:
    """Whether some path matches both."""
    longer = len(one.segments) - len(other.segments)
    lengths = longer == 0 or (longer > 0 and other.rest) or (longer < 0 and one.rest)
    pairs = zip(one.segments, other.segments, strict=False)
    return lengths and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _is_plain(segment: str) -> bool:
    """Whether a path can hold it without percent-encoding."""
    return segment.isascii() and segment.isprintable() and " " not in segment


def _respelled(name: str, known: set[str]) -> str | None:
    """The name with a letter of the other case, unless all such spellings are known."""
    spelled = (name[:place] + letter.swapcase() + name[place + 1 :] for place, letter in enumerate(name))
    return next((one for one in spelled if one not in known), None)
