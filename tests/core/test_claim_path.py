import pytest

from verifier.core import claim_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("scope", ("scope",)),
        ("https://acme.example/roles", ("https://acme.example/roles",)),
        ("a.b", ("a.b",)),
        ("/realm_access/roles", ("realm_access", "roles")),
        ("/a~1b/c~0d", ("a/b", "c~d")),
        ("/a~01", ("a~1",)),
    ],
)
def test_a_path_is_a_name_or_a_json_pointer(text: str, path: tuple[str, ...]) -> None:
    assert claim_path.parse(text) == path
    assert claim_path.parse(claim_path.render(path)) == path


@pytest.mark.parametrize("path", [("x",), ("a", "x"), ("a", "b", "x"), ("list", "0"), ("null",), ("text", "0")])
def test_a_path_that_leads_nowhere_finds_nothing(path: tuple[str, ...]) -> None:
    claims = {"a": {"b": 1}, "list": [1], "null": None, "text": "abc"}
    assert claim_path.find(claims, path) is None


def test_a_path_finds_what_stands_at_its_end() -> None:
    assert claim_path.find({"a": {"b": [1]}}, ("a", "b")) == [1]


@pytest.mark.parametrize(
    ("path", "text"),
    [(("scope",), "scope"), (("/x",), "/~1x"), (("a", "b/c", "d~e"), "/a/b~1c/d~0e"), (("a~b",), "a~b")],
)
def test_a_path_is_written_as_people_write_it(path: tuple[str, ...], text: str) -> None:
    assert claim_path.render(path) == text
    assert claim_path.parse(text) == path
