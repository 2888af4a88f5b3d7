import pytest

from verifier.core import bearer
from verifier.core.bearer import token_text
from verifier.core.reasons import Reason, Rejected


@pytest.mark.parametrize("value", ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "BeArEr   a.b.c"])
def test_the_scheme_is_read_in_any_case_and_with_any_number_of_spaces(value: str) -> None:
    assert token_text([value]) == "a.b.c"


def test_every_character_of_a_b64token_is_taken() -> None:
    assert token_text(["Bearer aZ09-._~+/=="]) == "aZ09-._~+/=="


@pytest.mark.parametrize(
    "values", [[], ["Basic abc"], [""], ["Bearers abc"], ["Bearer-MAC abc"], ["DPoP abc"], ["xBearer abc"]]
)
def test_credentials_of_another_scheme_are_a_missing_token(values: list[str]) -> None:
    with pytest.raises(Rejected) as refusal:
        token_text(values)
    assert refusal.value.reason is Reason.MISSING_TOKEN


def test_two_headers_are_ambiguous_even_when_they_are_equal() -> None:
    with pytest.raises(Rejected) as refusal:
        token_text(["Bearer a", "Bearer a"])
    assert refusal.value.reason is Reason.MULTIPLE_CREDENTIALS


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "Bearer\ta",
        "Bearer a b",
        "Bearer a,b",
        "Bearer a, Bearer b",
        'Bearer "a"',
        "Bearer a ",
        "Bearer =a",
        "Bearer a\x00",
        "Bearer a\n",
        "Bearer \udcff",
        "Bearer é",
        "Bearer:a",
    ],
)
def test_anything_but_one_token_after_the_scheme_is_malformed(value: str) -> None:
    with pytest.raises(Rejected) as refusal:
        token_text([value])
    assert refusal.value.reason is Reason.MALFORMED_CREDENTIALS


@pytest.mark.parametrize("values", [(), ("Basic eA==",)])
def test_no_token_is_no_refusal_where_none_is_needed(values: tuple[str, ...]) -> None:
    assert bearer.credential(values, None, needed=False) is None
    with pytest.raises(Rejected) as refusal:
        bearer.credential(values, None, needed=True)
    assert refusal.value.reason is Reason.MISSING_TOKEN


@pytest.mark.parametrize("values", [("Bearer",), ("Bearer a", "Bearer b")])
def test_a_token_that_cannot_be_read_is_a_refusal_where_none_is_needed_too(values: tuple[str, ...]) -> None:
    with pytest.raises(Rejected):
        bearer.credential(values, None, needed=False)


def test_a_token_comes_in_one_place() -> None:
    assert bearer.credential(("Bearer a",), None, needed=True) == bearer.credential((), "a", needed=True) == "a"
    with pytest.raises(Rejected) as refusal:
        bearer.credential(("Bearer a",), "a", needed=True)
    assert refusal.value.reason is Reason.MULTIPLE_CREDENTIALS


@pytest.mark.parametrize("text", ["abc", " abc\n", "Bearer abc", "bearer   abc ", "\r\nBEARER abc\r\n"])
def test_a_token_may_be_pasted_with_its_scheme_and_white_space(text: str) -> None:
    assert bearer.pasted(text) == "abc"
