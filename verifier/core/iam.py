"""From the route table and what somebody may take of it to a policy of IAM, for API Gateway.

API Gateway keeps the policy that it was given for a token, and judges later requests by it. So the policy must be
right for every route, and not only for the one that was asked about. Two things stand against this. IAM's ``*``
matches slashes too, so that ``pets/*`` is all below ``pets``; and in IAM a denial always wins, while in the table the
first route does.

So a policy is drawn up and then compared with the table: both are walked at once, segment by segment, with every
segment that either of them tells from others. What the policy would wrongly allow gets an explicit denial; and where
none can be written that denies nothing else, there is no policy of the whole table.

A policy speaks of paths of printable ASCII, spelled plainly. Those with percent-encoding, and in the forms that the
table refuses (``core/paths.py``), it denies, as nothing in IAM tells what they stand for.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from verifier.core.route_states import RouteStates, Segment, State, TooLarge, Verdict
from verifier.core.routes import Routes
from verifier.core.verdict import Reach

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""What API Gateway passes on."""

ANY: Final = "?*"
"""One segment or more, in a resource."""

REST: Final = "*"
"""At the end of a resource: whatever follows the slash, and nothing."""

UNUSUAL = ("*%*", "*;*", "*\\*", "*#*", "*//*", "*/.", "*/..", "*/./*", "*/../*")
"""Resources of paths that are not spelled plainly."""

MOST_STEPS = 10_000
"""Of drawing up one policy: 20 milliseconds or so, once for all who may do the same."""

_OTHER_METHOD = "OTHER"
_WILDCARDS = {"*": ".*", "?": "."}

Resource = tuple[str, ...]
"""Method and segments, with ``ANY`` and ``REST`` for wildcards. An empty last one is a last slash."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The policy of one principal. Resources are what follows API and stage in an ARN, as IAM reads them.

    ``allowed`` are those of each condition (JSON, empty for none).
    """

    allowed: tuple[tuple[str, tuple[str, ...]], ...]
    denied: tuple[str, ...] = ()


class Plans:
    """Policies for all who are judged by one table."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._drawn_up = lru_cache(1_024)(self._draw_up)

    def of(self, host: str | None, reach: Reach) -> Plan | None:
        """What ``host`` (as ``paths.host`` gives it) permits to whoever has ``reach``; None where IAM cannot express
        that."""
        return self._drawn_up(host, reach.routes, reach.default)

    def _draw_up(self, host: str | None, taken: tuple[bool, ...], default: bool) -> Plan | None:
        table = RouteStates(self._routes, host, taken, default=default, steps=MOST_STEPS)
        try:
            return _drawn_up(table)
        except (_NotExpressible, TooLarge):
            return None


def allows(plan: Plan, resource: str) -> bool:
    """Whether IAM would allow ``resource``, conditions aside."""
    return not any(_covers(one, resource) for one in plan.denied) and any(
        _covers(one, resource) for _, resources in plan.allowed for one in resources
    )


@lru_cache(4_096)
def _expression(pattern: str) -> re.Pattern[str]:
    """``*`` is any text, slashes and nothing included, and ``?`` any one character."""
    return re.compile("".join(_WILDCARDS.get(one) or re.escape(one) for one in pattern), re.DOTALL)


def _covers(pattern: str, resource: str) -> bool:
    return _expression(pattern).fullmatch(resource) is not None


class _NotExpressible(Exception):  # noqa: N818 - not an error: a policy of one method can be given instead
    pass


@dataclass(frozen=True, slots=True)
class _Tree:
    """What applies to a path that ends here, and to those that go on; without ``children``, it is the same."""

    verdict: Verdict
    children: tuple[tuple[Segment, "_Tree"], ...] = ()


def _drawn_up(table: RouteStates) -> Plan:
    """Raises ``_NotExpressible`` and ``TooLarge``."""
    methods = sorted(METHODS | table.methods)
    trees = {method: _tree(table, table.begin(method)) for method in (*methods, _OTHER_METHOD)}
    other = trees.pop(_OTHER_METHOD)
    if not other.children and all(tree == other for tree in trees.values()):
        return _plan(table, {} if other.verdict is None else {(REST,): other.verdict})
    allowed = {method: dict(_allowing(tree, ())) for method, tree in trees.items()}
    common = {
        path: verdict
        for path, verdict in _allowing(other, ())
        if all(own.get(path) == verdict for own in allowed.values())
    }
    if common:
        with suppress(_NotExpressible):
            return _plan(table, {**_resources({ANY: common}), **_resources(allowed, without=common)})
    return _plan(table, _resources(allowed))


def _tree(table: RouteStates, state: State) -> _Tree:
    verdict = table.verdict(state)
    if state.is_settled:
        return _Tree(verdict)
    children = tuple((segment, _tree(table, table.after(state, segment))) for segment in table.segments(state))
    if all(child == _Tree(verdict) for _, child in children):
        return _Tree(verdict)
    return _Tree(verdict, children)


def _allowing(tree: _Tree, path: Resource) -> Iterator[tuple[Resource, str]]:
    """What allows everything that is allowed, and more where it has wildcards."""
    if tree.verdict is not None:
        yield path, tree.verdict
        if path[-1:] != (ANY,):  # which matches what these do
            yield (*path, "" if tree.children else REST), tree.verdict
    for segment, child in tree.children:
        yield from _allowing(child, (*path, _written(segment)))


def _resources(
    by_method: Mapping[str, Mapping[Resource, str]], without: Mapping[Resource, str] | None = None
) -> dict[Resource, str]:
    return {
        (method, *path): verdict
        for method, paths in by_method.items()
        for path, verdict in paths.items()
        if path not in (without or ())
    }


def _plan(table: RouteStates, allowed: Mapping[Resource, str]) -> Plan:
    """Raises ``_NotExpressible`` and ``TooLarge``."""
    denied: list[Resource] = []
    while excess := _excess(table, allowed, denied):
        new: list[Resource] = []
        for visit in excess:
            if not any(_matches(resource, visit) for resource in new):
                new += _denial(table, visit)
        denied += new
    has_wildcards = any(ANY in resource or REST in resource for resource in allowed)
    return Plan(
        tuple(
            (condition, tuple(map(_text, (resource for resource in allowed if allowed[resource] == condition))))
            for condition in sorted(set(allowed.values()))
        ),
        (*map(_text, denied), *(UNUSUAL if has_wildcards else ())),
    )


@dataclass(frozen=True, slots=True)
class _Visit:
    """Paths of one kind, what the table says of them, and the resources that match, by their index. From ``settled``
    segments on, the table says the same of everything."""

    segments: tuple[Segment, ...]
    has_last_slash: bool
    settled: int | None
    verdict: Verdict
    matched: frozenset[int]


def _excess(table: RouteStates, allowed: Mapping[Resource, str], denied: Sequence[Resource]) -> list[_Visit]:
    """Paths that the policy allows and the table does not, those first whose denial is the widest. Raises
    ``_NotExpressible`` where the policy allows something under another condition, too."""
    resources = (*allowed, *denied)
    found = []
    for visit in _walk(table, resources):
        if any(index >= len(allowed) for index in visit.matched):
            continue
        conditions = {allowed[resources[index]] for index in visit.matched}
        if conditions and visit.verdict is None:
            found.append(visit)
        elif conditions and conditions != {visit.verdict}:
            raise _NotExpressible
    return sorted(found, key=lambda visit: sum(segment.is_named for segment in visit.segments))


def _denial(table: RouteStates, excess: _Visit) -> tuple[Resource, ...]:
    """Resources that deny it, as much as they can and nothing that is allowed. Raises ``_NotExpressible``."""
    path = tuple(map(_written, excess.segments))
    if excess.settled is not None:
        above = path[: excess.settled]
        all_below = (above,) if above[-1] == ANY else (above, (*above, REST))
        if not any(_hits_allowed(table, resource) for resource in all_below):
            return all_below
    exact = (*path, "") if excess.has_last_slash and path[-1] != ANY else path
    if _hits_allowed(table, exact):
        raise _NotExpressible
    return (exact,)


def _hits_allowed(table: RouteStates, resource: Resource) -> bool:
    return any(visit.verdict is not None and visit.matched for visit in _walk(table, (resource,)))


def _walk(table: RouteStates, resources: Sequence[Resource]) -> Iterator[_Visit]:
    """Every kind of path that the table or the ``resources`` tell from others, and that one of them may match."""
    start = frozenset(_Reading(index) for index in range(len(resources)))
    methods = (*(Segment(name, is_named=True) for name in sorted(METHODS | table.methods)), Segment(_OTHER_METHOD))
    todo: deque[tuple[State, frozenset[_Reading], tuple[Segment, ...], int | None]] = deque(
        (table.begin(one.text), _Ahead(start, resources).of(one.text), (one,), None) for one in methods
    )
    seen = set()
    while todo:
        state, readings, path, settled = todo.popleft()
        settled = len(path) if settled is None and state.is_settled else settled
        if (state, readings) in seen:
            continue
        seen.add((state, readings))
        for has_last_slash in (False, True):
            matched = frozenset(one.index for one in readings if _ends(one, resources, has_last_slash=has_last_slash))
            yield _Visit(path, has_last_slash, settled, table.verdict(state), matched)
        named = {token for one in readings if (token := one.token(resources)) not in (ANY, REST, "", None)}
        table.count(len(readings))
        ahead = _Ahead(readings, resources)
        for segment in table.segments(state, named):
            if after := ahead.of(segment.text):
                todo.append((table.after(state, segment), after, (*path, segment), settled))


@dataclass(frozen=True, slots=True)
class _Reading:
    """How far a resource is matched. ``is_within``: its wildcard at ``place`` has matched something."""

    index: int
    place: int = 0
    is_within: bool = False

    def token(self, resources: Sequence[Resource]) -> str | None:
        """What has to match next; None at the end."""
        resource = resources[self.index]
        return resource[self.place] if self.place < len(resource) else None


class _Ahead:
    """What ``readings`` become after another segment."""

    def __init__(self, readings: Iterable[_Reading], resources: Sequence[Resource]) -> None:
        of_any: set[_Reading] = set()
        self._of: dict[str | None, set[_Reading]] = {}
        for one in readings:
            token = one.token(resources)
            on = _Reading(one.index, one.place + 1)
            if token in (ANY, REST):
                of_any.add(_Reading(one.index, one.place, is_within=True))
            (of_any if token == ANY else self._of.setdefault(token, set())).add(on)
        self._of_any = frozenset(of_any)

    def of(self, segment: str) -> frozenset[_Reading]:
        return self._of_any.union(self._of.get(segment, ()))


def _ends(one: _Reading, resources: Sequence[Resource], *, has_last_slash: bool) -> bool:
    """Whether the resource matches a path that ends here."""
    token = one.token(resources)
    if one.is_within:
        return token == REST or (has_last_slash and one.place == len(resources[one.index]) - 1)
    return token in ("", REST) if has_last_slash else token is None


def _matches(resource: Resource, visit: _Visit) -> bool:
    readings = frozenset([_Reading(0)])
    for segment in visit.segments:
        readings = _Ahead(readings, (resource,)).of(segment.text)
    return any(_ends(one, (resource,), has_last_slash=visit.has_last_slash) for one in readings)


def _written(segment: Segment) -> str:
    return segment.text if segment.is_named else ANY


def _text(resource: Resource) -> str:
    method, *path = resource
    return "/".join(["*" if method == ANY and path else method, *path])
