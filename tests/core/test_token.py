import json
import secrets
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import encode
from verifier.core import token
from verifier.core.reasons import Reason, Rejected

HEADER = {"alg": "RS256"}


def refused(text: str) -> Reason:
    with pytest.raises(Rejected) as refusal:
        token.parse(text)
    return refusal.value.reason


def made(header: object = HEADER, payload: object = None, signature: str = "QQ") -> str:
    return f"{encode(header)}.{encode({} if payload is None else payload)}.{signature}"


def test_a_token_is_taken_apart() -> None:
    parsed = token.parse(made({"alg": "ES256", "kid": "k", "typ": "at+jwt"}, {"iss": "x"}))
    assert (parsed.algorithm, parsed.key_id, parsed.type, parsed.signature) == ("ES256", "k", "at+jwt", b"A")
    assert parsed.unverified_claims == {"iss": "x"}


def test_the_signing_input_is_what_was_sent() -> None:
    text = made()
    assert token.parse(text).signing_input == text.rpartition(".")[0].encode()


def test_its_repr_shows_nothing_of_it() -> None:
    assert repr(token.parse(made({"alg": "secret-looking"}))) == "Token(…)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.b",
        "..",
        ".e30.QQ",
        f"{encode(HEADER)}..QQ",
        f"{encode(HEADER)}.e30.",
        f"{encode(HEADER)}.e30",
        f"{encode(HEADER)}.e30.QQ.QQ",
        f"{encode(HEADER)}.e30.QQ.QQ.QQ",
        f"{encode(HEADER)}.e30=.QQ",
        f" {encode(HEADER)}.e30.QQ",
        f"{encode(HEADER)}.e30.QQ\n",
        f"{encode(HEADER)}.e30.QR",
        f"{encode(HEADER)}.e31.QQ",
        f"{encode(HEADER)}.e30.Q",
        json.dumps({"payload": "e30", "signatures": [{"protected": encode(HEADER), "signature": "QQ"}]}),
    ],
)
def test_anything_but_three_canonical_segments_is_malformed(text: str) -> None:
    assert refused(text) is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b'"x"',
        b"null",
        b'{"alg":"RS256","alg":"none"}',
        b'\xef\xbb\xbf{"alg":"RS256"}',
        b'{"alg":"\xff"}',
        b"",
        b"{",
    ],
)
def test_a_header_that_is_no_unambiguous_object_is_malformed(raw: bytes) -> None:
    assert refused(f"{encode(raw) or 'e3'}.e30.QQ") is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize("raw", [b"[]", b'{"a":1,"a":2}', b'{"exp":NaN}', b'{"a":"\\ud800"}', b"plain text"])
def test_a_payload_that_is_no_unambiguous_object_is_malformed(raw: bytes) -> None:
    assert refused(made(payload=raw)) is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize("header", [{}, {"alg": None}, {"alg": 1}, {"alg": ["RS256"]}, {"alg": {}}])
def test_an_alg_that_is_no_string_is_malformed(header: object) -> None:
    assert refused(made(header)) is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize("name", ["kid", "typ"])
@pytest.mark.parametrize("value", [None, 1, [], {}, True])
def test_a_kid_or_typ_that_is_no_string_is_malformed(name: str, value: object) -> None:
    assert refused(made({**HEADER, name: value})) is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize("value", [["exp"], [], None, 0, "b64", {"a": 1}, [["exp"]]])
def test_any_crit_is_refused_whatever_it_holds(value: object) -> None:
    assert refused(made({**HEADER, "crit": value})) is Reason.UNSUPPORTED_CRIT


@pytest.mark.parametrize("value", [True, False, None])
def test_any_b64_is_refused(value: object) -> None:
    assert refused(made({**HEADER, "b64": value})) is Reason.UNSUPPORTED_CRIT


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_key_material_in_the_header_is_ignored(name: str) -> None:
    assert token.parse(made({**HEADER, name: "https://evil.example/keys"})).key_id is None


def test_a_token_of_the_longest_size_is_looked_at_and_a_longer_one_is_not() -> None:
    token.check_size("a" * 10, 10)
    with pytest.raises(Rejected) as refusal:
        token.check_size("a" * 11, 10)
    assert refusal.value.reason is Reason.TOKEN_TOO_LARGE


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{1,9}\.[A-Za-z0-9_-]{1,9}\.[A-Za-z0-9_-]{1,9}", fullmatch=True))
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    with suppress(Rejected):
        assert token.parse(text).signing_input.decode() in text


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda c: st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "x"]), c),
        max_leaves=6,
    )
)
def test_no_header_raises_anything_but_a_refusal(header: object) -> None:
    try:
        token.parse(made(header))
    except Rejected:
        return
    assert isinstance(header, dict)


def test_a_header_that_is_longer_than_usual_is_not_kept_for_other_tokens() -> None:
    before = token._known_header.cache_info().currsize
    for length, kept in ((600, 0), (10, 1)):
        token.parse(f"{encode({'alg': 'RS256', 'kid': 'k' * length, 'n': secrets.token_hex(4)})}.e30.QQ")
        assert token._known_header.cache_info().currsize == before + kept
