"""One reading of a path."""

import pytest

from verifier.core.paths import Form, host, is_told_alike, segments, split
from verifier.core.reasons import Reason, Rejected


def refusal(path: str, *permitted: Form) -> str:
    with pytest.raises(Rejected) as refused:
        segments(path, frozenset(permitted))
    assert refused.value.reason is Reason.ROUTE_DENIED
    return refused.value.detail


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ()),
        ("/pets", ("pets",)),
        ("/pets/", ("pets",)),
        ("/pets/7", ("pets", "7")),
        ("/.../..a/a..", ("...", "..a", "a..")),
        ("/%70%65ts", ("pets",)),
        ("/%7Ealice/a%20b", ("~alice", "a b")),
        ("/caf%C3%A9", ("café",)),
        ("/a%3Fb/c%23d", ("a?b", "c#d")),
        ("/Pets", ("Pets",)),
        ("/a+b/c,d/e=f/g&h/i|j", ("a+b", "c,d", "e=f", "g&h", "i|j")),
        ("/x.%70hp", ("x.php",)),
    ],
)
def test_a_path_is_read_as_its_decoded_segments(path: str, expected: tuple[str, ...]) -> None:
    assert segments(path) == expected


AMBIGUOUS = [
    ("/./pets/./7/.", Form.DOT_SEGMENTS, ("pets", "7")),
    ("/a/../pets", Form.DOT_SEGMENTS, ("pets",)),
    ("/a/b/../../pets/x/..", Form.DOT_SEGMENTS, ("pets",)),
    ("/../../pets", Form.DOT_SEGMENTS, ("pets",)),
    ("/a%2Fb", Form.ENCODED_SLASH, ("a/b",)),
    ("/a%2fb", Form.ENCODED_SLASH, ("a/b",)),
    ("/a\\b", Form.BACKSLASH, ("a\\b",)),
    ("/a%5Cb", Form.BACKSLASH, ("a\\b",)),
    ("/a/%2e%2e/b", Form.ENCODED_DOTS, ("b",)),
    ("/a/.%2E/b", Form.ENCODED_DOTS, ("b",)),
    ("/a/%2e/b", Form.ENCODED_DOTS, ("a", "b")),
    ("/a%252Fb", Form.ENCODED_PERCENT, ("a%2Fb",)),
    ("/a;v=1/b", Form.PARAMETERS, ("a", "b")),
    ("/a%3Bv=1/b", Form.PARAMETERS, ("a", "b")),
    ("//a", Form.REPEATED_SLASHES, ("a",)),
    ("/a//b", Form.REPEATED_SLASHES, ("a", "b")),
    ("/a//", Form.REPEATED_SLASHES, ("a",)),
    ("/a#b", Form.FRAGMENT, ("a",)),
    ("/a%zz", Form.INVALID_PERCENT, ("a%zz",)),
    ("/a%", Form.INVALID_PERCENT, ("a%",)),
    ("/a%c0%af", Form.INVALID_UTF8, ("a\udcc0\udcaf",)),
    ("/%ff", Form.INVALID_UTF8, ("\udcff",)),
]


@pytest.mark.parametrize(("path", "form", "_expected"), AMBIGUOUS)
def test_a_path_that_is_read_in_more_than_one_way_is_refused(path: str, form: Form, _expected: tuple[str, ...]) -> None:
    assert "which is read in more than one way" in refusal(path, *(set(Form) - {form}))


@pytest.mark.parametrize(("path", "form", "expected"), AMBIGUOUS)
def test_a_form_that_is_permitted_is_read_in_its_own_way(path: str, form: Form, expected: tuple[str, ...]) -> None:
    assert segments(path, {form}) == expected


@pytest.mark.parametrize("path", ["/a%00b", "/a%0d%0aX:1", "/%7f", "/%1F"])
def test_an_encoded_control_character_is_never_permitted(path: str) -> None:
    assert refusal(path, *Form) == "the path has an encoded control character"


@pytest.mark.parametrize("path", ["/a b", "/a\x00", "/a\n", "/é", "/\udcff", "/\x7f"])
def test_characters_that_must_be_encoded_are_never_permitted(path: str) -> None:
    assert refusal(path, *Form) == "the path has characters that must be percent-encoded"


@pytest.mark.parametrize("path", ["", "*", "pets", "?a", "#/a"])
def test_what_does_not_begin_with_a_slash_is_no_path(path: str) -> None:
    assert refusal(path, *Form) == "the path does not begin with a slash"


@pytest.mark.parametrize(
    "path",
    [
        "/a%2F..%2Fb",
        "/a%5C..",
        "/..%2Fb",
        "/%2e%2e%2fb",
        "/a/..\\b",
        "/..;/b",
        "/a/..%3b/b",
        "/a/%2e%2e%3b/b",
        "/a/..%3b%2Fb",
        "/a/x;/../b;..",
    ],
)
def test_dots_beside_other_separators_are_never_permitted(path: str) -> None:
    assert refusal(path, *Form) == "the path has dots beside a semicolon, a backslash or an encoded slash"


@pytest.mark.parametrize("path", ["/a//../b", "//./a", "/a/..//b"])
def test_dots_beside_repeated_slashes_are_never_permitted(path: str) -> None:
    assert refusal(path, *Form) == "the path has dot segments and repeated slashes"


@pytest.mark.parametrize(
    ("target", "authority", "path"),
    [
        ("/a?b", None, "/a"),
        ("/a", None, "/a"),
        ("/a?b?c#d", None, "/a"),
        ("https://acme.example/a?b", "acme.example", "/a"),
        ("HTTP://acme.example:8080", "acme.example:8080", ""),
        ("https://acme.example?b", "acme.example?b", ""),
        ("https://acme.example?/admin", "acme.example?", "/admin"),
        ("https://acme.example\\x/admin", "acme.example\\x", "/admin"),
        ("https://acme.example#/admin", "acme.example#", "/admin"),
        ("https://u:p@acme.example/a", "u:p@acme.example", "/a"),
        ("https:///a", "", "/a"),
        ("ftp://acme.example/a", None, "ftp://acme.example/a"),
        ("*", None, "*"),
        ("", None, ""),
    ],
)
def test_a_target_is_split_into_authority_and_path(target: str, authority: str | None, path: str) -> None:
    assert split(target) == (authority, path)


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        ("acme.example", "acme.example"),
        ("ACME.example:8443", "acme.example"),
        ("acme.example.", "acme.example"),
        ("acme.example.:80", "acme.example"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("acme.example:", "acme.example"),
    ],
)
def test_hosts_are_compared_without_case_port_and_final_dot(authority: str, expected: str) -> None:
    assert host(authority) == expected


@pytest.mark.parametrize(
    "authority",
    [
        "",
        "a b",
        "u@acme.example",
        "a/b",
        "acme..example:x",
        "é",
        "a,b",
        "[::1",
        ":80",
        "a..",
        "a..b",
        ".a",
        "\u212a",
        "a?",
        "a\\b",
    ],
)
def test_what_is_no_host_is_refused(authority: str) -> None:
    with pytest.raises(Rejected) as refused:
        host(authority)
    assert refused.value.reason is Reason.ROUTE_DENIED


@pytest.mark.parametrize(
    ("whole", "end", "expected"),
    [
        ("/v1/pets/7", "/pets/7", True),
        ("/pets/a%40b", "/pets/a@b", True),
        ("/pets/7", "/pets/8", False),
        ("/pets%2F7", "/pets/7", False),
        ("/pets/%2537", "/pets/%37", False),
        ("/7", "/pets/7", False),
        ("/pets/%00", "/pets/7", False),
        ("/pets/7", "/pets/%00", True),  # refused as it is
    ],
)
def test_two_spellings_of_a_path_are_told_alike(whole: str, end: str, expected: bool) -> None:
    assert is_told_alike(whole, end) is expected
