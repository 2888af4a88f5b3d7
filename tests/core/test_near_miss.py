import pytest

from verifier.core import near_miss

URL = "https://acme.eu.auth0.com/"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (URL[:-1], "the slash at its end is missing: character 26 should be '/' and is the end"),
        (URL + "/", "it has a slash at its end that is not expected: character 27 should be the end and is '/'"),
        (URL.replace("https", "http"), "http and https are mixed up: character 5 should be 's' and is ':'"),
        (URL.upper(), "upper and lower case differ: character 1 should be 'h' and is 'H'"),
        (f" {URL}", "white space around it differs: character 1 should be 'h' and is ' '"),
        (URL.replace("eu", "us"), f"close to {URL!r}: character 14 should be 'e' and is 'u'"),
    ],
)
def test_a_near_miss_is_named_with_the_character_that_differs(found: str, said: str) -> None:
    assert near_miss.explain(["https://other.example/", URL], found) == said


def test_http_that_is_expected_is_told_from_https_too() -> None:
    assert "mixed up" in (near_miss.explain(["http://127.0.0.1:8081"], "https://127.0.0.1:8081") or "")


def test_the_right_text_is_no_miss() -> None:
    assert near_miss.explain([URL], URL) is None


def test_what_is_not_close_is_not_named() -> None:
    assert near_miss.explain([URL], "https://completely-different.example/tenant") is None


def test_several_small_differences_at_once_are_still_near() -> None:
    assert near_miss.explain([URL], URL.replace("https", "http").upper().rstrip("/")) is not None


def test_white_space_around_what_is_expected_is_seen_too() -> None:
    assert (near_miss.explain([f"{URL} "], URL) or "").startswith("white space around it differs")


def test_capitals_that_are_expected_are_seen_too() -> None:
    assert (near_miss.explain([URL.upper()], URL) or "").startswith("upper and lower case differ")
