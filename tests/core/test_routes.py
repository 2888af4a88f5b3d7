"""Routes: the first that matches, by method, host and path."""

import random

import pytest

from verifier.core.paths import Form
from verifier.core.policy import Requirement
from verifier.core.reasons import Reason, Rejected
from verifier.core.routes import (
    TOKEN_ONLY,
    Access,
    Pattern,
    Route,
    Routes,
    Target,
    check_access,
    crossing,
    parse,
    shadowed,
)


def route(
    path: str,
    *methods: str,
    hosts: tuple[str, ...] = (),
    name: str | None = None,
    access: Access = Access.AUTHENTICATED,
) -> Route:
    return Route(name or path, parse(path), frozenset(methods), frozenset(hosts), access)


def found(*routes: Route, method: str = "GET", host: str | None = "acme.example", path: str = "/") -> str | None:
    rule = Routes(routes, default=Access.AUTHENTICATED).rule(Target(method, host, path))
    return None if rule.route is None else rule.route.name


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("/", Pattern(())),
        ("/pets", Pattern(("pets",))),
        ("/pets/", Pattern(("pets",))),
        ("/pets/{id}", Pattern(("pets", None))),
        ("/pets/*/photos", Pattern(("pets", None, "photos"))),
        ("/**", Pattern((), rest=True)),
        ("/public/**", Pattern(("public",), rest=True)),
        ("/café/a b", Pattern(("café", "a b"))),
    ],
)
def test_a_pattern_is_read_by_its_segments(written: str, expected: Pattern) -> None:
    assert parse(written) == expected


@pytest.mark.parametrize(
    "written",
    [
        "",
        "pets",
        "/a//b",
        "//",
        "/**/a",
        "/a*",
        "/{a",
        "/{}",
        "/{a}b",
        "/a/../b",
        "/.",
        "/%61",
        "/a;b",
        "/a?b",
        "/a#b",
        "/a\\b",
        "/a\n",
    ],
)
def test_a_pattern_that_could_be_read_otherwise_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"expected a path|stand for whole|written decoded"):
        parse(written)


@pytest.mark.parametrize("written", ["/", "/pets", "/pets/*", "/public/**", "/**"])
def test_a_pattern_is_written_as_it_was_read(written: str) -> None:
    assert str(parse(written)) == written


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/pets", "/pets", True),
        ("/pets", "/pets/", True),
        ("/pets", "/pets/7", False),
        ("/pets/{id}", "/pets/7", True),
        ("/pets/{id}", "/pets", False),
        ("/pets/{id}", "/pets/7/photos", False),
        ("/pets/*/photos", "/pets/7/photos", True),
        ("/pets/*/photos", "/pets/7/8/photos", False),
        ("/public/**", "/public", True),
        ("/public/**", "/public/a/b/c", True),
        ("/public/**", "/publicity", False),
        ("/a/*/**", "/a", False),
        ("/a/*/**", "/a/b", True),
        ("/**", "/", True),
        ("/", "/", True),
        ("/", "/a", False),
    ],
)
def test_a_pattern_matches_whole_segments(pattern: str, path: str, matches: bool) -> None:
    assert (found(route(pattern), path=path) is not None) is matches


def test_the_first_route_that_matches_counts() -> None:
    routes = (route("/a/*", name="any"), route("/a/b", name="b"), route("/**", name="all"), route("/c", name="c"))
    assert [found(*routes, path=path) for path in ("/a/b", "/a/x", "/c", "/x/y")] == ["any", "any", "all", "all"]


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_counts_whatever_kind_of_pattern_comes_first(order: int) -> None:
    kinds = ["/a/b/c", "/a/*/c", "/a/**", "/*/b/c", "/**", "/a/b/*"][::order]
    assert found(*map(route, kinds), path="/a/b/c") == kinds[0]


def test_a_route_for_another_method_is_passed_over() -> None:
    routes = (route("/a", "POST", name="post"), route("/a", "GET", name="get"), route("/**", name="rest"))
    assert [found(*routes, method=method, path="/a") for method in ("POST", "GET", "PUT")] == ["post", "get", "rest"]


def test_a_route_for_get_is_for_head_too() -> None:
    assert found(route("/a", "GET"), method="HEAD", path="/a") == "/a"
    assert found(route("/a", "POST"), method="HEAD", path="/a") is None


@pytest.mark.parametrize(
    ("hosts", "host", "matches"),
    [
        ((), "x.example", True),
        ((), None, True),
        (("a.example",), "a.example", True),
        (("a.example",), "A.Example:8443", True),
        (("a.example",), "b.a.example", False),
        (("a.example",), None, False),
        (("*.a.example",), "b.a.example", True),
        (("*.a.example",), "c.b.a.example", True),
        (("*.a.example",), "a.example", False),
        (("*.a.example",), "ba.example", False),
        (("*.a.example", "b.example"), "b.example", True),
    ],
)
def test_a_route_is_for_its_hosts_alone(hosts: tuple[str, ...], host: str | None, matches: bool) -> None:
    assert (found(route("/**", hosts=hosts), host=host) is not None) is matches


def test_the_order_counts_whether_hosts_are_named_or_not() -> None:
    routes = (
        route("/**", hosts=("*.b.example",), name="below b"),
        route("/**", hosts=("a.b.example",), name="a.b"),
        route("/**", hosts=("*.example",), name="below"),
        route("/**", name="any"),
    )
    hosts = ("a.b.example", "x.b.example", "b.example", "other.test")
    assert [found(*routes, host=host) for host in hosts] == ["below b", "below b", "below", "any"]


@pytest.mark.parametrize("default", [Access.AUTHENTICATED, Access.DENIED])
def test_the_default_applies_where_no_route_matches(default: Access) -> None:
    assert Routes([route("/a")], default=default).rule(Target("GET", None, "/b")).access is default


def test_a_question_about_a_token_alone_has_no_route() -> None:
    assert Routes([route("/**", access=Access.DENIED)], default=Access.DENIED).rule(None) is TOKEN_ONLY


@pytest.mark.parametrize(
    "target",
    [
        Target("GET", None, "//a"),
        Target("GET", "a b", "/a"),
        Target("GET", None, "a"),
        Target("get", None, "/a"),
        Target("", None, "/a"),
        Target("G T", None, "/a"),
        Target("OPTIONS", None, "/a", preflight_of="delete"),
    ],
)
def test_what_cannot_be_read_in_one_way_is_denied(target: Target) -> None:
    rule = Routes([route("/**", access=Access.ANONYMOUS)], default=Access.ANONYMOUS).rule(target)
    assert rule.access is Access.DENIED
    with pytest.raises(Rejected) as refusal:
        check_access(rule)
    assert refusal.value.reason is Reason.ROUTE_DENIED


def test_where_there_are_routes_for_hosts_a_host_must_be_told() -> None:
    """Or who leaves it out would be spared them."""
    routes = Routes([route("/a", hosts=("x",), access=Access.DENIED), route("/**")], default=Access.AUTHENTICATED)
    assert routes.rule(Target("GET", None, "/a")).access is Access.DENIED
    assert routes.rule(Target("GET", "y", "/a")).access is Access.AUTHENTICATED


def test_a_form_that_is_permitted_is_read() -> None:
    routes = Routes([route("/a/b")], default=Access.DENIED, permitted={Form.REPEATED_SLASHES})
    assert routes.rule(Target("GET", None, "//a//b")).access is Access.AUTHENTICATED


@pytest.mark.parametrize(("access", "refused"), [*((access, access is Access.DENIED) for access in Access)])
def test_nobody_takes_a_route_that_is_denied(access: Access, refused: bool) -> None:
    rule = Routes([route("/a", access=access)], default=Access.AUTHENTICATED).rule(Target("GET", None, "/a"))
    if not refused:
        check_access(rule)
        return
    with pytest.raises(Rejected, match="route_denied"):
        check_access(rule)


@pytest.mark.parametrize(
    ("answers", "access", "expected"),
    [
        (False, Access.AUTHENTICATED, Access.AUTHENTICATED),
        (True, Access.AUTHENTICATED, Access.ANONYMOUS),
        (True, Access.ANONYMOUS, Access.ANONYMOUS),
        (True, Access.DENIED, Access.DENIED),
    ],
)
def test_preflights_are_answered_where_that_is_said_and_the_route_is_not_denied(
    answers: bool, access: Access, expected: Access
) -> None:
    made = Route("a", parse("/a"), access=access, requirement=Requirement(scopes=("x",)))
    routes = Routes([made], default=Access.DENIED, answers_preflights=answers)
    assert routes.rule(Target("OPTIONS", None, "/a", preflight_of="DELETE")).access is expected


@pytest.mark.parametrize(
    ("earlier", "later", "is_shadowed"),
    [
        (route("/**"), route("/a", name="later"), True),
        (route("/a/**"), route("/a/b/**", name="later"), True),
        (route("/a/*"), route("/a/b", name="later"), True),
        (route("/a/b"), route("/a/*", name="later"), False),
        (route("/a/b/**"), route("/a/**", name="later"), False),
        (route("/a/*"), route("/a/**", name="later"), False),
        (route("/a"), route("/a", "GET", name="later"), True),
        (route("/a", "GET"), route("/a", name="later"), False),
        (route("/a", "GET", "POST"), route("/a", "POST", name="later"), True),
        (route("/a", hosts=("x",)), route("/a", name="later"), False),
        (route("/a", hosts=("*.x",)), route("/a", hosts=("a.x", "b.x"), name="later"), True),
        (route("/a", hosts=("*.x",)), route("/a", hosts=("*.a.x",), name="later"), True),
        (route("/a", hosts=("*.a.x",)), route("/a", hosts=("*.x",), name="later"), False),
        (route("/a", hosts=("a.x",)), route("/a", hosts=("a.x", "b.x"), name="later"), False),
    ],
)
def test_a_route_that_can_never_match_is_found(earlier: Route, later: Route, is_shadowed: bool) -> None:
    assert shadowed([earlier, later]) == ({"later": earlier.name} if is_shadowed else {})


@pytest.mark.parametrize(
    ("one", "other", "cross"),
    [
        (route("/a/*"), route("/*/b", name="other"), True),
        (route("/a/**"), route("/*/b", name="other"), True),
        (route("/a/*", "GET"), route("/a/b", name="other"), True),
        (route("/a", "GET", "POST"), route("/a", "POST", "PUT", name="other"), True),
        (route("/a", hosts=("*.x",)), route("/**", hosts=("b.x", "y"), name="other"), True),
        (route("/a/b"), route("/a/*", name="other"), False),
        (route("/a/*"), route("/a/b", name="other"), False),
        (route("/a/*"), route("/b/*", name="other"), False),
        (route("/a/*"), route("/*/b/c", name="other"), False),
        (route("/a", "GET"), route("/a", "POST", name="other"), False),
        (route("/a", hosts=("x",)), route("/a", hosts=("y",), name="other"), False),
        (route("/a/b/**"), route("/a/*", name="other"), True),
    ],
)
def test_routes_of_which_only_the_order_tells_which_applies_are_found(one: Route, other: Route, cross: bool) -> None:
    assert crossing([one, other]) == (((one.name, "other"),) if cross else ())


def test_hosts_of_one_kind_share_what_was_arranged_for_them() -> None:
    routes = Routes([route("/a", hosts=("*.x",))], default=Access.DENIED)
    rules = [routes.rule(Target("GET", host, "/a")).access for host in ("a.x", "b.x", "a.x", "x", "y")]
    assert rules == [Access.AUTHENTICATED] * 3 + [Access.DENIED] * 2


def test_many_routes_are_told_apart() -> None:
    made = [route(f"/service-{n}/{{id}}/part-{n % 7}/**") for n in range(1_000)]
    assert found(*made, path="/service-777/x/part-0/y/z") == "/service-777/{id}/part-0/**"


def test_a_preflight_is_judged_as_the_method_that_it_asks_about() -> None:
    routes = Routes(
        [route("/a", "DELETE", access=Access.DENIED), route("/a", "GET")],
        default=Access.DENIED,
        answers_preflights=True,
    )
    asked = [
        routes.rule(Target("OPTIONS", None, "/a", preflight_of=method)).access for method in ("DELETE", "GET", "PUT")
    ]
    assert asked == [Access.DENIED, Access.ANONYMOUS, Access.DENIED]


@pytest.mark.parametrize("path", ["/Admin", "/ADMIN/users", "/admin/X", "/stra%C3%9Fe"])
def test_another_case_of_letters_evades_no_route(path: str) -> None:
    made = [route("/admin/x"), route("/admin/**"), route("/strasse"), route("/**")]
    refused = Routes(made, default=Access.AUTHENTICATED).rule(Target("GET", None, path))
    assert refused.access is Access.DENIED
    permitted = Routes(made, default=Access.AUTHENTICATED, permitted={Form.LETTER_CASE})
    assert permitted.rule(Target("GET", None, path)).access is Access.AUTHENTICATED


@pytest.mark.parametrize("path", ["/Other", "/users/ALICE", "/x/Y/Z", "/Reports/Q1"])
def test_letters_of_any_case_stand_where_no_other_route_would_apply(path: str) -> None:
    made = [route("/users/{id}"), route("/Reports/*"), route("/x/**")]
    assert Routes(made, default=Access.AUTHENTICATED).rule(Target("GET", None, path)).access is Access.AUTHENTICATED


def _naive(routes: list[Route], method: str, segments: tuple[str, ...]) -> str | None:
    for one in routes:
        pattern, given = one.pattern, segments
        if pattern.rest:
            given = segments[: len(pattern.segments)]
        fits = len(given) == len(pattern.segments) and all(
            a in (None, b) for a, b in zip(pattern.segments, given, strict=True)
        )
        methods = one.methods | ({"HEAD"} if "GET" in one.methods else set())
        if fits and (not methods or method in methods):
            return one.name
    return None


def test_routes_are_found_as_somebody_would_who_reads_them_in_order() -> None:
    chosen = random.Random(20_261_121)
    for _ in range(300):
        made = []
        for number in range(chosen.randint(1, 8)):
            pattern = "/" + "/".join(
                chosen.choices(["a", "b", "*"], k=chosen.randint(0, 3)) + chosen.choices([[], ["**"]])[0]
            )
            made.append(route(pattern, *chosen.sample(["GET", "HEAD", "POST"], chosen.randint(0, 2)), name=str(number)))
        routes = Routes(made, default=Access.DENIED)
        never = shadowed(made)
        for _ in range(20):
            segments = tuple(chosen.choices("abc", k=chosen.randint(0, 4)))
            method = chosen.choice(["GET", "HEAD", "POST", "PUT"])
            one = routes.find(method, None, segments)
            assert (None if one is None else one.name) == _naive(made, method, segments)
            assert one is None or one.name not in never
