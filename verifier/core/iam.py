"""From the route table and what somebody may take of it to a policy of IAM, for API Gateway.

API Gateway keeps the policy that it was given for a token, and judges later requests by it. So the policy must be
right for every route, and not only for the one that was asked about. Two things stand against this. IAM's ``*``
matches slashes too, so that ``pets/*`` is all below ``pets``; and in IAM a denial always wins, while in the table the
first route does.

So a policy is drawn up and then compared with the table. Both are automata over segments, and the walk goes through
their product, so that every kind of path is seen that either of them tells from others. What the policy would wrongly
allow gets an explicit denial; and where none can be written that denies nothing else, there is no policy of the whole
table. With ``/pets/{id}`` alone, ``GET/pets/?*`` is allowed; the walk comes to ``GET/pets/x/y``, which the table
denies; and ``GET/pets/?*/?*`` is denied.

A policy speaks of paths of printable ASCII, spelled plainly. Those with percent-encoding, and in the forms that the
table refuses (``core/paths.py``), it denies, as nothing in IAM tells what they stand for.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from verifier.core.iam_resources import ALL, SOME, Moves, Position, Resource, covers, matched, matches, named, written
from verifier.core.route_states import OTHER, Grant, RouteStates, Segment, State, TooLarge
from verifier.core.routes import Routes
from verifier.core.verdict import Reach

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""What API Gateway passes on."""

UNUSUAL = ("*%*", "*;*", "*\\*", "*#*", "*//*", "*/.", "*/..", "*/./*", "*/../*")
"""Resources of paths that are not spelled plainly."""

MOST_STEPS = 10_000
"""Of drawing up one policy: tens of milliseconds at most, once for all who may do the same."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The policy of one principal. Resources are what follows API and stage in an ARN, as IAM reads them.

    ``allowed`` are those of each condition (JSON, empty for none).
    """

    allowed: tuple[tuple[str, tuple[str, ...]], ...]
    denied: tuple[str, ...] = ()

    @property
    def resources(self) -> tuple[str, ...]:
        """All that it names."""
        return (*(one for _, resources in self.allowed for one in resources), *self.denied)

    def allows(self, resource: str) -> bool:
        """Whether IAM would allow ``resource``, conditions aside."""
        return not any(covers(one, resource) for one in self.denied) and any(
            covers(one, resource) for _, resources in self.allowed for one in resources
        )


WHOLE_STAGE = Plan((("", (ALL,)),))


class Plans:
    """Policies for all who are judged by one table."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._cached = lru_cache(1_024)(self._compute)

    def of(self, host: str | None, reach: Reach) -> Plan | None:
        """What ``host`` (as ``paths.host`` gives it) permits to whoever has ``reach``; None where IAM cannot express
        that."""
        return self._cached(host, reach.routes, reach.default)

    def _compute(self, host: str | None, taken: tuple[bool, ...], default: bool) -> Plan | None:
        try:
            return _plan_of(RouteStates(self._routes, host, taken, default=default, steps=MOST_STEPS))
        except (_NotExpressible, TooLarge, RecursionError):  # of routes with hundreds of segments
            return None


class _NotExpressible(Exception):  # noqa: N818 - not an error: a policy of one method can be given instead
    pass


@dataclass(frozen=True, slots=True)
class _Tree:
    """What applies to a path that ends here, and to those that go on; without ``children``, it is the same."""

    grant: Grant
    children: tuple[tuple[Segment, "_Tree"], ...] = ()


def _plan_of(table: RouteStates) -> Plan:
    """Raises ``_NotExpressible`` and ``TooLarge``."""
    methods = sorted(METHODS | table.methods)
    trees = {method: _tree(table, table.begin(method)) for method in (*methods, OTHER.text)}
    other = trees.pop(OTHER.text)
    if not other.children and all(tree == other for tree in trees.values()):
        return _mended(table, {} if other.grant is None else {(ALL,): other.grant})
    allowed = {method: dict(_allowing(tree, ())) for method, tree in trees.items()}
    common = {
        path: grant for path, grant in _allowing(other, ()) if all(own.get(path) == grant for own in allowed.values())
    }
    if common:
        with suppress(_NotExpressible):
            return _mended(table, {**_resources({SOME: common}), **_resources(allowed, without=common)})
    return _mended(table, _resources(allowed))


def _tree(table: RouteStates, state: State) -> _Tree:
    grant = table.grant(state)
    if state.is_settled:
        return _Tree(grant)
    children = tuple((segment, _tree(table, table.after(state, segment))) for segment in table.segments(state))
    if all(child == _Tree(grant) for _, child in children):
        return _Tree(grant)
    return _Tree(grant, children)


def _allowing(tree: _Tree, path: Resource) -> Iterator[tuple[Resource, str]]:
    """What allows everything that is allowed, and more where it has wildcards."""
    if tree.grant is not None:
        yield path, tree.grant
        if path[-1:] != (SOME,):  # which matches what these do
            yield (*path, "" if tree.children else ALL), tree.grant
    for segment, child in tree.children:
        yield from _allowing(child, (*path, _name(segment)))


def _resources(
    by_method: Mapping[str, Mapping[Resource, str]], without: Mapping[Resource, str] | None = None
) -> dict[Resource, str]:
    return {
        (method, *path): grant
        for method, paths in by_method.items()
        for path, grant in paths.items()
        if path not in (without or ())
    }


def _mended(table: RouteStates, allowed: Mapping[Resource, str]) -> Plan:
    """The plan that allows this, and denies what that is too much. Raises ``_NotExpressible`` and ``TooLarge``."""
    denied: list[Resource] = []
    while wrong := _wrongly_allowed(table, allowed, denied):
        new: list[Resource] = []
        for kind in wrong:
            table.count(len(new) + len(kind.segments))
            texts = [segment.text for segment in kind.segments]
            if not any(matches(resource, texts, has_last_slash=kind.has_last_slash) for resource in new):
                new += _denial(table, kind)
        denied += new
    has_wildcards = any(SOME in resource or ALL in resource for resource in allowed)
    return Plan(
        tuple(
            (condition, tuple(map(written, (resource for resource in allowed if allowed[resource] == condition))))
            for condition in sorted(set(allowed.values()))
        ),
        (*map(written, denied), *(UNUSUAL if has_wildcards else ())),
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """All paths that neither side tells apart, what the table says of them, and the resources that match, by their
    index. From ``settled`` segments on, the table says the same of everything."""

    segments: tuple[Segment, ...]
    has_last_slash: bool
    settled: int | None
    grant: Grant
    matched: frozenset[int]


def _wrongly_allowed(table: RouteStates, allowed: Mapping[Resource, str], denied: Sequence[Resource]) -> list[_Kind]:
    """Paths that the policy allows and the table does not, those first whose denial is the widest. Raises
    ``_NotExpressible`` where the policy allows something under another condition, too."""
    resources = (*allowed, *denied)
    found = []
    for kind in _walk(table, resources):
        if any(index >= len(allowed) for index in kind.matched):
            continue
        conditions = {allowed[resources[index]] for index in kind.matched}
        if conditions and kind.grant is None:
            found.append(kind)
        elif conditions and conditions != {kind.grant}:
            raise _NotExpressible
    return sorted(found, key=lambda kind: sum(segment.is_named for segment in kind.segments))


def _denial(table: RouteStates, wrong: _Kind) -> tuple[Resource, ...]:
    """Resources that deny it, as much as they can and nothing that is allowed. Raises ``_NotExpressible``."""
    path = tuple(map(_name, wrong.segments))
    if wrong.settled is not None:
        above = path[: wrong.settled]
        all_below = (above,) if above[-1] == SOME else (above, (*above, ALL))
        if not any(_would_deny_allowed(table, resource) for resource in all_below):
            return all_below
    exact = (*path, "") if wrong.has_last_slash and path[-1] != SOME else path
    if _would_deny_allowed(table, exact):
        raise _NotExpressible
    return (exact,)


def _would_deny_allowed(table: RouteStates, resource: Resource) -> bool:
    return any(kind.grant is not None and kind.matched for kind in _walk(table, (resource,)))


def _walk(table: RouteStates, resources: Sequence[Resource]) -> Iterator[_Kind]:
    """Every kind of path that the table or the ``resources`` tell from others, and that one of them may match. Raises
    ``TooLarge``."""
    start = Moves((Position(index) for index in range(len(resources))), resources)
    methods = (*(Segment(name, is_named=True) for name in sorted(METHODS | table.methods)), OTHER)
    todo: deque[tuple[State, frozenset[Position], tuple[Segment, ...], int | None]] = deque(
        (table.begin(one.text), start.by(one.text), (one,), None) for one in methods
    )
    seen = set()
    while todo:
        state, positions, path, settled = todo.popleft()
        settled = len(path) if settled is None and state.is_settled else settled
        if (state, positions) in seen:
            continue
        seen.add((state, positions))
        table.count(len(positions))
        for has_last_slash in (False, True):
            found = matched(positions, resources, has_last_slash=has_last_slash)
            yield _Kind(path, has_last_slash, settled, table.grant(state), found)
        moves = Moves(positions, resources)
        for segment in table.segments(state, named(positions, resources)):
            if ahead := moves.by(segment.text):
                todo.append((table.after(state, segment), ahead, (*path, segment), settled))


def _name(segment: Segment) -> str:
    return segment.text if segment.is_named else SOME
