"""Tokens that are no JWTs: told apart by their form, and whom to ask about them."""

import hashlib

import pytest

from tests.support import claims, encode, issuer, sign
from verifier.core.issuer import Introspect, Introspection, Issuer, Issuers
from verifier.core.token import content_digest, is_b64token, is_like_jws, is_opaque

JWT = f"{encode({'alg': 'RS256'})}.{encode({'iss': 'x'})}.QQ"


def asked(name: str, prefix: str | None = None, tokens: Introspect = Introspect.OPAQUE) -> Issuer:
    """An issuer that is asked about tokens."""
    return issuer(
        name=name, identifiers=frozenset({name}), introspection=Introspection(tokens, prefix, ttl=60.0, denial_ttl=5.0)
    )


def unasked(name: str) -> Issuer:
    return issuer(name=name, identifiers=frozenset({name}))


def to_ask(text: str, *issuers: Issuer) -> list[str]:
    return [found.name for found in Issuers(issuers).of_opaque(text)]


MANY = (asked("a"), asked("b", "b_"), unasked("c"), asked("d", "b_long_"), asked("e"), asked("f", "f_"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("abc", ["a", "e"]),
        ("b_abc", ["b"]),
        ("b_", ["b"]),
        ("b_lon", ["b"]),
        ("b_long_abc", ["d"]),
        ("f_abc", ["f"]),
        ("B_abc", ["a", "e"]),
        ("xb_abc", ["a", "e"]),
        ("b", ["a", "e"]),
        ("a.b", ["a", "e"]),
        ("a.b.c.d", ["a", "e"]),
    ],
)
def test_the_issuer_whose_prefix_a_token_bears_is_asked_or_else_all_without_one(text: str, names: list[str]) -> None:
    assert to_ask(text, *MANY) == names


def test_the_longest_prefix_wins_in_whatever_order_the_issuers_are() -> None:
    assert to_ask("b_long_abc", *reversed(MANY)) == ["d"]


def test_issuers_are_asked_in_their_order() -> None:
    assert to_ask("abc", *reversed(MANY)) == ["e", "a"]


def test_nobody_is_asked_about_a_token_that_has_the_form_of_a_jwt_and_no_prefix() -> None:
    assert to_ask(JWT, *MANY) == []


def test_a_prefix_counts_even_where_the_token_has_the_form_of_a_jwt() -> None:
    assert to_ask("b_abc.abc.abc", *MANY) == ["b"]


@pytest.mark.parametrize("text", ["", "b_ abc", "b_abc\n", "b_ä", "=b", "abc,def", 'b_"', "b_\ud800", "b_=a", "\x00"])
def test_nobody_is_asked_about_what_cannot_be_a_bearer_token(text: str) -> None:
    assert to_ask(text, *MANY) == []


def test_an_issuer_that_is_not_asked_about_tokens_is_never_asked() -> None:
    assert to_ask("abc", unasked("a"), unasked("b")) == []


@pytest.mark.parametrize(
    ("tokens", "about_jwts", "has_keys"),
    [
        (None, False, True),
        (Introspect.OPAQUE, False, True),
        (Introspect.ALWAYS, True, True),
        (Introspect.ONLY, True, False),
    ],
)
def test_the_tokens_an_issuer_is_asked_about_say_whether_a_signature_counts(
    tokens: Introspect | None, about_jwts: bool, has_keys: bool
) -> None:
    found = unasked("a") if tokens is None else asked("a", tokens=tokens)
    assert (found.asked_about_jwts, found.has_keys) == (about_jwts, has_keys)


@pytest.mark.parametrize("tokens", list(Introspect))
def test_whoever_is_asked_at_all_is_asked_about_opaque_tokens(tokens: Introspect) -> None:
    assert to_ask("abc", asked("a", tokens=tokens)) == ["a"]


@pytest.mark.parametrize(
    ("text", "opaque"),
    [
        (JWT, False),
        ("a.b.c", False),
        ("abc", True),
        ("a.b", True),
        ("a.b.", True),
        ("a..c", True),
        ("a.b.c.d", True),
        ("a.b.c=", True),
        ("a.b.c\n", True),
        ("a.b.ä", True),
        ("", True),
    ],
)
def test_a_token_is_opaque_unless_it_has_three_segments(text: str, opaque: bool) -> None:
    assert is_opaque(text) is opaque


@pytest.mark.parametrize(
    ("text", "bearer"),
    [
        (JWT, True),
        ("abc", True),
        ("aZ09-._~+/", True),
        ("abc==", True),
        ("", False),
        ("=", False),
        ("a=b", False),
        (" abc", False),
        ("abc ", False),
        ("abc\n", False),
        ("a b", False),
        ("a,b", False),
        ("ab\u0660", False),
        ("ä", False),
        ("\ud800", False),
    ],
)
def test_a_bearer_token_is_made_of_its_characters_alone(text: str, bearer: bool) -> None:
    assert is_b64token(text) is bearer


def test_tokens_that_differ_in_their_signature_alone_have_one_digest() -> None:
    assert content_digest("a.b.c", opaque=False) == content_digest("a.b.d", opaque=False)


@pytest.mark.parametrize("other", ["a.x.c", "x.b.c", "ab.c.d", "a.bc.d"])
def test_tokens_that_say_something_else_have_another_digest(other: str) -> None:
    assert content_digest(other, opaque=False) != content_digest("a.b.c", opaque=False)


@pytest.mark.parametrize("other", ["abd", "abc.", "abc=", "ABC", ""])
def test_the_whole_of_an_opaque_token_counts(other: str) -> None:
    assert content_digest(other, opaque=False) != content_digest("abc", opaque=False)


def test_the_whole_of_an_opaque_token_counts_though_it_looks_like_a_jwt() -> None:
    assert content_digest("a.b.c", opaque=True) != content_digest("a.b.d", opaque=True)


def test_the_last_of_four_segments_counts() -> None:
    assert content_digest("a.b.c.d", opaque=False) != content_digest("a.b.c.e", opaque=False)


@pytest.mark.parametrize(("text", "content"), [("abc", b"abc"), ("a.b.c", b"a.b"), ("ä", b"\xc3\xa4")])
def test_a_digest_is_the_sha256_of_what_counts(text: str, content: bytes) -> None:
    assert content_digest(text, opaque=False) == hashlib.sha256(content).digest()


def test_text_that_is_no_unicode_has_a_digest_too() -> None:
    assert content_digest("\ud800", opaque=False) != content_digest("\ud801", opaque=False)


JWE = f"{encode({'alg': 'dir', 'enc': 'A256GCM'})}..iv.text.tag"

LENIENT = [
    "{}==",
    "{}=",
    "{}~",
    "{}.",
    "{}..",
    "{}...",
    "{}.x",
    "{}.x.y",
    ".{}",
    "{}~disclosure~a.b.c",
]


@pytest.mark.parametrize("spelling", LENIENT)
def test_a_jws_that_only_somebody_lenient_would_read_is_not_opaque(spelling: str) -> None:
    """As an opaque token it would get around its signature and its revocation."""
    text = spelling.format(sign(claims(), algorithm="EdDSA"))
    assert is_like_jws(text)
    assert to_ask(text, asked("a")) == []


@pytest.mark.parametrize("header", ["eyJhbGciOiJFZERTQSJ9", "e~yJhbGciOiJFZERTQSJ9", "CiB7Im", "ICAgeyJhbGc"])
def test_a_jws_is_known_by_the_object_that_it_begins_with(header: str) -> None:
    assert is_like_jws(f"{header}.e30.AA")


@pytest.mark.parametrize(
    "text",
    ["a.b.c", "ey", "eyJh", "eyJhbGciOiJFZERTQSJ9", "eyJh.x", JWE, "", "..", "a.b"],
)
def test_what_begins_with_no_object_or_has_other_parts_is_no_jws(text: str) -> None:
    assert not is_like_jws(text)


@pytest.mark.parametrize("segment", [0, 2, 3, 4])
def test_a_jwe_lacks_nothing_but_its_key(segment: int) -> None:
    segments = JWE.split(".")
    segments[segment] = ""
    header = encode({"alg": "dir", "enc": "A256GCM"})
    assert is_like_jws(".".join(segments if segment else ["", header, *segments[2:]]))


def test_a_jwe_says_how_it_is_encrypted() -> None:
    assert is_like_jws(f"{encode({'alg': 'dir'})}..iv.text.tag")


def test_a_jwe_has_a_header_that_can_be_read() -> None:
    assert is_like_jws(f"{encode({'alg': 'dir', 'enc': 'A256GCM'})}=..iv.text.tag")


def test_a_prefix_makes_no_opaque_token_of_a_jws() -> None:
    text = sign(claims(), algorithm="EdDSA")
    assert to_ask(text, asked("a", text[:2])) == []
