"""From a request's method, host and path to what it demands: the first route that matches, in their order."""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum

from verifier.core import paths, policy
from verifier.core.paths import Form
from verifier.core.policy import NOTHING, Requirement
from verifier.core.reasons import Reason, Rejected
from verifier.core.verdict import Principal, Reach

ONE = "*"
"""The segment of a pattern that stands for any one."""

REST = "**"
"""The last segment of a pattern, for whatever follows, and for nothing."""


_METHOD = re.compile(r"[A-Z][A-Z_-]{0,31}", re.ASCII)
_NO_METHOD = Rejected(Reason.ROUTE_DENIED, "the method is not one in capital letters")
_UNCHECKED = Rejected(Reason.ROUTE_DENIED, "the route has a condition that only IAM policies can carry")
_NO_HOST = Rejected(Reason.ROUTE_DENIED, "there are routes for hosts, so the host must be told")
_OTHER_CASE = Rejected(
    Reason.ROUTE_DENIED, "the path has letters in another case than a route, and services differ about that"
)


class Access(StrEnum):
    """Who may take a route."""

    AUTHENTICATED = "authenticated"
    ANONYMOUS = "anonymous"  # a token that is present must still be good
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Target:
    """What a request wants to do. ``path`` is as it came, without the query; ``host`` may have a port.

    ``preflight_of`` is the method that a browser asks about beforehand (Fetch, CORS-preflight request).
    ``holds_conditions``: whoever asks sees to the conditions of routes.
    """

    method: str
    host: str | None
    path: str
    preflight_of: str | None = None
    holds_conditions: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """``segments`` are literal and decoded, or ``ONE``. ``rest``: whatever follows matches too."""

    segments: tuple[str | None, ...]  # None stands for any one
    rest: bool = False

    def __str__(self) -> str:
        return "/" + "/".join([*(ONE if one is None else one for one in self.segments), *([REST] if self.rest else [])])


@dataclass(frozen=True, slots=True)
class Route:
    """One rule. No ``methods`` and no ``hosts`` mean any; a host ``*.acme.example`` stands for all below it.

    ``condition`` is what IAM has to check besides (a Condition block, as JSON), empty for nothing. ``report_only``: it
    is on trial, and decides nothing.
    """

    name: str
    pattern: Pattern
    methods: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    access: Access = Access.AUTHENTICATED
    requirement: Requirement = NOTHING
    condition: str = ""
    report_only: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """What applies to a request. ``refusal`` says why it can be none, where that is so."""

    access: Access
    requirement: Requirement = NOTHING
    route: Route | None = None
    refusal: Rejected | None = None


TOKEN_ONLY = Rule(Access.AUTHENTICATED)
"""For questions about a token alone."""


def parse(pattern: str) -> Pattern:
    """The pattern that ``pattern`` writes: ``/pets/{id}``, ``/pets/*``, ``/public/**``.

    Raises ``ValueError``, saying what was expected.
    """
    if not pattern.startswith("/"):
        raise ValueError("expected a path that begins with /")
    written = pattern[1:].split("/")
    rest = written[-1] == REST
    if rest or written[-1] == "":  # a last slash makes no other path
        written.pop()
    return Pattern(tuple(map(_segment, written)), rest)


def _segment(written: str) -> str | None:
    if written == ONE or re.fullmatch(r"\{[^{}*]+\}", written):
        return None
    if written == "" or {"*", "{", "}"}.intersection(written):
        raise ValueError(
            f"{written!r}: *, ** (at the end alone) and {{name}} stand for whole segments, and none is empty"
        )
    if written in (".", "..") or not written.isprintable() or {"%", ";", "?", "#", "\\"}.intersection(written):
        raise ValueError(f"{written!r}: patterns are written decoded, without dot segments, parameters and query")
    return written


def check_access(rule: Rule) -> None:
    """Raises ``Rejected``: ``route_denied``."""
    if rule.refusal is not None:
        raise Rejected(rule.refusal.reason, rule.refusal.detail)
    if rule.access is Access.DENIED:
        raise Rejected(Reason.ROUTE_DENIED, "nobody may do this")


class Routes:
    """All routes, arranged so that many are matched as fast as few.

    Those that are only reported are not among them: they are in ``trial`` alone, the table as it would be with them
    enforced, which is None where there are none.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        *,
        default: Access,
        permitted: Set[Form] = frozenset(),
        answers_preflights: bool = False,
    ) -> None:
        written = tuple(routes)
        self.all = tuple(route for route in written if not route.report_only)
        self.trial: Routes | None = None
        if len(self.all) < len(written):
            self.trial = Routes(
                (replace(route, report_only=False) if route.report_only else route for route in written),
                default=default,
                permitted=permitted,
                answers_preflights=answers_preflights,
            )
        self.default = default
        self._default = Rule(default)
        self._permitted = permitted
        self._answers_preflights = answers_preflights
        named = {host for route in self.all for host in route.hosts}
        self._below = frozenset(host[1:] for host in named if host.startswith("*."))
        self._named = frozenset(host for host in named if not host.startswith("*."))
        self._has_capitals = any(
            segment is not None and segment != segment.casefold()
            for route in self.all
            for segment in route.pattern.segments
        )
        self._tables: dict[tuple[str, bool], _Node] = {}

    def rule(self, target: Target | None) -> Rule:
        """What applies to ``target``. Never raises: what cannot be read in one way is denied."""
        if target is None:
            return TOKEN_ONLY
        if not all(map(_METHOD.fullmatch, (target.method, target.preflight_of or "OPTIONS"))):
            return Rule(Access.DENIED, refusal=_NO_METHOD)
        try:
            segments = paths.segments(target.path, self._permitted)
            host = None if target.host is None else paths.host(target.host)
        except Rejected as refusal:
            return Rule(Access.DENIED, refusal=refusal)
        if host is None and (self._named or self._below):
            return Rule(Access.DENIED, refusal=_NO_HOST)
        is_preflight = target.preflight_of is not None and self._answers_preflights
        method = str(target.preflight_of) if is_preflight else target.method
        route = self.find(method, host, segments)
        if self._is_evaded(route, method, host, segments):
            return Rule(Access.DENIED, refusal=_OTHER_CASE)
        if route is not None and route.condition and not target.holds_conditions:
            return Rule(Access.DENIED, route=route, refusal=_UNCHECKED)
        rule = self._default if route is None else Rule(route.access, route.requirement, route)
        return Rule(Access.ANONYMOUS, route=route) if is_preflight and rule.access is not Access.DENIED else rule

    def reach(self, principal: Principal | None, leeway: float, now: float) -> Reach:
        """What ``principal`` may do at ``now`` (seconds since 1970), or anybody, where there is none."""

        def may(access: Access, requirement: Requirement = NOTHING) -> bool:
            if principal is None:
                return access is Access.ANONYMOUS
            return access is not Access.DENIED and policy.meets(requirement, principal, leeway, now)

        routes = tuple(may(route.access, route.requirement) for route in self.all)
        return Reach(routes, may(self.default))

    def permits(self, form: Form) -> bool:
        """Whether paths may be spelled so."""
        return form in self._permitted

    def for_host(self, host: str | None) -> tuple[tuple[int, Route], ...]:
        """The routes for ``host`` (as ``paths.host`` gives it), with their places."""
        key = self._key(host)
        return tuple(
            (place, route)
            for place, route in enumerate(self.all)
            if not route.hosts or any(_is_for(name, key) for name in route.hosts)
        )

    def find(self, method: str, host: str | None, segments: Sequence[str]) -> Route | None:
        """The first route for ``method``, ``host`` (as ``paths.host`` gives it) and decoded ``segments``."""
        place = self._table(host).find(method, segments)
        return None if place is None else self.all[place]

    def _is_evaded(self, route: Route | None, method: str, host: str | None, segments: Sequence[str]) -> bool:
        """Whether another route would apply for a service that does not tell capital letters from small ones."""
        if Form.LETTER_CASE in self._permitted:
            return False
        folded = [segment.casefold() for segment in segments]
        if not self._has_capitals and folded == [*segments]:
            return False
        place = self._table(host, folded=True).find(method, folded)
        return (None if place is None else self.all[place]) is not route

    def _table(self, host: str | None, *, folded: bool = False) -> "_Node":
        """The routes that are for ``host``. ``folded``: without regard to the case of their letters."""
        key = self._key(host)
        table = self._tables.get((key, folded))
        if table is None:
            table = self._tables[key, folded] = _Node()
            for place, route in self.for_host(host):
                table.add(place, route, folded=folded)
        return table

    def _key(self, host: str | None) -> str:
        """The same for all hosts that have the same routes."""
        key = host or ""
        if key in self._named:
            return key
        below = (key[dot:] for dot, character in enumerate(key) if character == ".")
        return next((f"*{suffix}" for suffix in below if suffix in self._below), "")


def _is_for(name: str, host: str) -> bool:
    """Whether routes of the host ``name`` are for ``host``, which may stand for all below one itself."""
    return name == host or (name.startswith("*.") and host.removeprefix("*").endswith(name[1:]) and host != name[2:])


@dataclass(slots=True)
class _Node:
    """Routes by their next segment. Places are those in ``Routes.all``: the lowest counts."""

    literal: dict[str, "_Node"] = field(default_factory=dict)
    any_one: "_Node | None" = None
    here: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    rest: list[tuple[int, frozenset[str]]] = field(default_factory=list)

    def add(self, place: int, route: Route, *, folded: bool) -> None:
        node = self
        for segment in route.pattern.segments:
            if segment is None:
                node.any_one = node.any_one or _Node()
                node = node.any_one
            else:
                node = node.literal.setdefault(segment.casefold() if folded else segment, _Node())
        (node.rest if route.pattern.rest else node.here).append((place, methods_of(route)))

    def find(self, method: str, segments: Sequence[str]) -> int | None:
        """The place of the first route. Every node is looked at once: there are two ways on from each segment."""
        best: int | None = None
        level = [self]
        for segment in segments:
            following: list[_Node] = []
            for node in level:
                best = _first(best, node.rest, method)
                literal = node.literal.get(segment)
                if literal is not None:
                    following.append(literal)
                if node.any_one is not None:
                    following.append(node.any_one)
            level = following
            if not level:
                return best
        for node in level:
            best = _first(_first(best, node.rest, method), node.here, method)
        return best


def _first(best: int | None, entries: list[tuple[int, frozenset[str]]], method: str) -> int | None:
    for place, methods in entries:
        if best is not None and place > best:
            return best
        if not methods or method in methods:
            return place
    return best


def methods_of(route: Route) -> frozenset[str]:
    """HEAD is a GET without its body, and services answer both in one place."""
    return route.methods | {"HEAD"} if "GET" in route.methods else route.methods


def shadowed(routes: Sequence[Route]) -> Mapping[str, str]:
    """Routes that can never match, by name, with the earlier one that takes everything of theirs."""
    found: dict[str, str] = {}
    for place, route in enumerate(routes):
        for earlier in routes[:place]:
            if _covers(earlier, route):
                found[route.name] = earlier.name
                break
    return found


def crossing(routes: Sequence[Route]) -> tuple[tuple[str, str], ...]:
    """Pairs of routes, by name, that some requests match both, while each matches others too: there the order decides,
    and that is easily overlooked."""
    return tuple(
        (earlier.name, later.name)
        for place, later in enumerate(routes)
        for earlier in routes[:place]
        if _meet(earlier, later) and not _covers(earlier, later) and not _covers(later, earlier)
    )


def _meet(one: Route, other: Route) -> bool:
    methods = not one.methods or not other.methods or bool(methods_of(one) & methods_of(other))
    hosts = (
        not one.hosts or not other.hosts or any(_is_for(a, b) or _is_for(b, a) for a in one.hosts for b in other.hosts)
    )
    a, b = one.pattern, other.pattern
    longer = len(a.segments) - len(b.segments)
    lengths = longer == 0 or (longer > 0 and b.rest) or (longer < 0 and a.rest)
    pairs = zip(a.segments, b.segments, strict=False)
    return methods and hosts and lengths and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _covers(earlier: Route, later: Route) -> bool:
    methods = not earlier.methods or (bool(later.methods) and methods_of(later) <= methods_of(earlier))
    hosts = not earlier.hosts or (
        bool(later.hosts) and all(any(_is_for(name, host) for name in earlier.hosts) for host in later.hosts)
    )
    return methods and hosts and _covers_path(earlier.pattern, later.pattern)


def _covers_path(earlier: Pattern, later: Pattern) -> bool:
    if earlier.rest:
        if len(later.segments) < len(earlier.segments):
            return False
    elif later.rest or len(later.segments) != len(earlier.segments):
        return False
    return all(one is None or one == other for one, other in zip(earlier.segments, later.segments, strict=False))
