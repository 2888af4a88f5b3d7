"""Policies for API Gateway, judged as IAM judges them: wildcards are greedy and match slashes, and a denial wins."""

import os
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.test_claims import identified
from tests.support import NOW
from verifier.core import policy
from verifier.core.iam import METHODS, UNUSUAL, Plan, Plans
from verifier.core.iam_resources import covers
from verifier.core.paths import Form
from verifier.core.policy import Requirement
from verifier.core.reasons import Rejected
from verifier.core.routes import Access, Route, Routes, Target, check_access, parse
from verifier.core.verdict import Principal

EXAMPLES = int(os.environ.get("IAM_EXAMPLES", "120"))
HOST = "api.example"
ANY_CASE = frozenset({Form.LETTER_CASE})
ORDINARY = re.compile(r"(/(?!\.{1,2}(?:/|\Z))[^/%;\\#]+)*/?")


def matches(pattern: str, resource: str) -> bool:
    """``*`` is any text, slashes and nothing included, and ``?`` any one character (IAM, Resource)."""
    expression = "".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern)
    return re.fullmatch(expression, resource, re.DOTALL) is not None


def conditions(plan: Plan, resource: str) -> set[str]:
    """The conditions under any of which ``resource`` is allowed; empty where it is denied."""
    if any(matches(pattern, resource) for pattern in plan.denied):
        return set()
    return {condition for condition, patterns in plan.allowed if any(matches(one, resource) for one in patterns)}


def judged(routes: Routes, principal: Principal, method: str, path: str) -> str | None:
    """The condition under which the table allows a request; None where it denies."""
    rule = routes.rule(Target(method, HOST, path, holds_conditions=True))
    try:
        check_access(rule)
        policy.check(rule.requirement, principal, 0, NOW)
    except Rejected:
        return None
    return "" if rule.route is None else rule.route.condition


def with_scopes(*scopes: str) -> Principal:
    return identified()._replace(scopes=scopes)


def table(*routes: Route, default: Access = Access.DENIED, permitted: frozenset[Form] = frozenset()) -> Routes:
    return Routes(routes, default=default, permitted=permitted)


def route(
    path: str, *methods: str, scopes: str = "", access: Access = Access.AUTHENTICATED, condition: str = ""
) -> Route:
    demands = Requirement(scopes=tuple(scopes.split()))
    return Route(path, parse(path), frozenset(methods), access=access, requirement=demands, condition=condition)


def plan(routes: Routes, *scopes: str) -> Plan | None:
    return Plans(routes).of(HOST, routes.reach(with_scopes(*scopes), 0, NOW))


def allowed(found: Plan | None) -> list[str]:
    assert found is not None
    return [resource for _, resources in found.allowed for resource in resources]


def denied(found: Plan | None) -> list[str]:
    assert found is not None
    return [resource for resource in found.denied if resource not in UNUSUAL]


SEGMENTS = ("a", "b", "Pets", "~")
SCOPES = ("read", "write", "admin")
PATTERN_SEGMENTS = st.sampled_from([*SEGMENTS, "*", "*", "é"])
PATTERNS = st.builds(
    lambda segments, rest: "/" + "/".join([*segments, *(["**"] if rest else [])]),
    st.lists(PATTERN_SEGMENTS, max_size=3),
    st.booleans(),
)
ROUTES = st.builds(
    lambda path, methods, scopes, access, condition: route(
        path, *methods, scopes=" ".join(scopes), access=access, condition=condition
    ),
    PATTERNS,
    st.lists(st.sampled_from(["GET", "POST", "HEAD", "OTHER"]), max_size=2),
    st.lists(st.sampled_from(SCOPES), max_size=1),
    st.sampled_from(
        [Access.AUTHENTICATED, Access.AUTHENTICATED, Access.AUTHENTICATED, Access.DENIED, Access.ANONYMOUS]
    ),
    st.sampled_from(["", "", "", '{"IpAddress": 1}']),
)
TABLES = st.builds(
    lambda routes, default, permitted: table(*routes, default=default, permitted=permitted),
    st.lists(ROUTES, max_size=5),
    st.sampled_from([Access.AUTHENTICATED, Access.DENIED]),
    st.sampled_from([frozenset[Form](), ANY_CASE, frozenset(Form)]),
)
REQUEST_SEGMENTS = st.one_of(
    st.sampled_from([*SEGMENTS, "pets", "A", "PETS", "7", "x.y", "*", "?*", "GET", "~", "OTHER"]),
    st.sampled_from(["%61", "..", ".", "", "a;b", "a%2Fb", "%2e%2e", "\\", "a#b", "%C3%A9", "%zz", "%00"]),
    st.text("aA7.%", min_size=1, max_size=3),
)
REQUESTS = st.tuples(
    st.sampled_from(sorted(METHODS)),
    st.builds(
        lambda segments, slash: "/" + "/".join(segments) + ("/" if slash and segments else ""),
        st.lists(REQUEST_SEGMENTS, max_size=4),
        st.booleans(),
    ),
)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(TABLES, st.sets(st.sampled_from(SCOPES)), st.lists(REQUESTS, min_size=20, max_size=60))
def test_a_policy_allows_what_the_table_allows_of_plain_paths_and_nothing_else(
    routes: Routes, scopes: set[str], requests: list[tuple[str, str]]
) -> None:
    principal = with_scopes(*scopes)
    found = Plans(routes).of(HOST, routes.reach(principal, 0, NOW))
    if found is None:
        return
    for method, path in requests:
        expected = judged(routes, principal, method, path)
        given_by_iam = conditions(found, f"{method}{path}")
        assert given_by_iam <= {expected}, f"{method} {path} is allowed by {found}"
        if expected is not None and ORDINARY.fullmatch(path):
            assert given_by_iam == {expected}, f"{method} {path} is denied by {found}"


def test_whoever_may_do_everything_gets_one_wildcard() -> None:
    assert allowed(plan(table(default=Access.AUTHENTICATED))) == ["*"]
    assert allowed(plan(table(route("/a"), default=Access.AUTHENTICATED, permitted=ANY_CASE))) == ["*"]


def test_whoever_may_do_nothing_gets_nothing() -> None:
    assert plan(table()) == Plan(())
    assert plan(table(route("/a", scopes="read"))) == Plan(())


def test_one_segment_is_not_all_below_it() -> None:
    found = plan(table(route("/pets/{id}", "PUT")))
    assert allowed(found) == ["PUT/pets/?*"]
    assert denied(found) == ["PUT/pets/?*/?*"]


def test_a_route_that_comes_first_is_an_explicit_denial() -> None:
    found = plan(table(route("/pets/mine", "PUT", scopes="x"), route("/pets/{id}", "PUT"), permitted=ANY_CASE))
    assert denied(found) == ["PUT/pets/?*/?*", "PUT/pets/mine", "PUT/pets/mine/"]


def test_what_is_allowed_behind_a_wildcard_is_not_denied_with_it() -> None:
    found = plan(table(route("/pets/{id}/photos", "PUT")))
    assert allowed(found) == ["PUT/pets/?*/photos", "PUT/pets/?*/photos/"]
    assert "PUT/pets/?*/?*" not in denied(found)


def test_routes_for_all_methods_are_one_resource_where_that_loses_nothing() -> None:
    assert allowed(plan(table(route("/*/a"), permitted=ANY_CASE))) == ["*/?*/a", "*/?*/a/"]


def test_routes_for_all_methods_are_one_each_where_a_wildcard_would_be_too_much() -> None:
    """``*/a`` would deny ``GET/x/a`` with the rest."""
    found = plan(table(route("/a", scopes="x"), route("/**"), permitted=ANY_CASE))
    assert denied(found) == [f"{method}/a{end}" for method in sorted(METHODS) for end in ("", "/")]


@pytest.mark.parametrize(
    "routes",
    [
        # In whatever case a service reads it, IAM does not.
        table(route("/admin/**", scopes="x"), default=Access.AUTHENTICATED),
        # What is between the two is denied, and IAM has no word for everything but photos.
        table(route("/pets/{id}", "PUT"), route("/pets/{id}/photos", "PUT")),
        # One condition more or less is another permission.
        table(route("/a/b/**", condition="x"), route("/a/**")),
        table(route("/a/b", "PUT", condition="x"), route("/a/{id}", "PUT"), permitted=ANY_CASE),
        # More than a policy can hold.
        table(*(route(f"/{n}/a", "PUT") for n in range(70))),
        table(*(route(f"/{n}/{{id}}", "PUT", scopes="x" if n % 2 else "") for n in range(400))),
        table(*(route("/" + "/".join("*" * n) + "/a/b", "PUT") for n in range(1, 9))),
        table(*(route(f"/v1/{n}/{{id}}", "PUT", scopes="x" if n % 2 else "") for n in range(2_000))),
    ],
)
def test_what_iam_cannot_express_is_not_attempted(routes: Routes) -> None:
    assert plan(routes) is None


def test_a_route_with_a_condition_is_allowed_under_it_alone() -> None:
    found = plan(table(route("/a", "PUT", condition="x"), route("/b", "PUT")))
    assert found is not None
    assert conditions(found, "PUT/a") == {"x"}
    assert conditions(found, "PUT/b") == {""}


def test_literals_that_no_path_can_hold_as_they_are_matter_not() -> None:
    found = plan(table(route("/é/**", "PUT"), route("/a b", "PUT"), route("/c", "PUT")))
    assert allowed(found) == ["PUT/c", "PUT/c/"]


def test_a_policy_is_evaluated_as_iam_does() -> None:
    found = plan(table(route("/pets/{id}", "PUT")))
    assert found is not None
    assert found.allows("PUT/pets/7")
    assert not found.allows("PUT/pets/7/8")
    assert not found.allows("PUT/pets/%37")
    assert not found.allows("GET/pets/7")


@pytest.mark.parametrize("pattern", ["*a*b*", "?*/?*/x", "*", "a", "", "**", "a*", "*/..", "a?c*"])
@given(st.text("abcx/.", max_size=12))
def test_wildcards_cover_what_a_regular_expression_would(pattern: str, resource: str) -> None:
    assert covers(pattern, resource) is matches(pattern, resource)


def test_no_path_takes_long_to_compare() -> None:
    """Exponents would show: it ends, or the suite's time is over."""
    pattern = "GET/" + "/".join(["?*"] * 12) + "/x"
    assert not covers(pattern, "GET/" + "a/" * 800)


def test_many_routes_take_few_steps_where_few_are_allowed() -> None:
    routes = table(*(route(f"/v{n}/{{id}}", "PUT", scopes="" if n < 5 else "x") for n in range(2_000)))
    assert len(allowed(plan(routes))) == 5


def test_routes_of_any_depth_are_no_error() -> None:
    assert plan(table(route("/" + "/".join(["a"] * 2_000), "PUT"))) is None


def test_many_small_tables_have_a_policy() -> None:
    """A comparison that always gives up would be right, and of no use."""
    chance = random.Random(1)
    expressible = 0
    for _ in range(100):
        paths = ["/" + "/".join(chance.choices(["a", "b", "*"], k=chance.randint(1, 3))) for _ in range(4)]
        routes = (route(path, "PUT", scopes=chance.choice(["", "x"])) for path in paths)
        expressible += plan(table(*routes, permitted=ANY_CASE)) is not None
    assert expressible >= 50
