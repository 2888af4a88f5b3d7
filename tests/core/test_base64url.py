import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.core import base64url

bounded = settings(max_examples=200, derandomize=True, deadline=None)


@bounded
@given(st.binary(max_size=64))
def test_what_is_encoded_decodes_to_the_same_bytes(raw: bytes) -> None:
    assert base64url.decode(base64url.encode(raw)) == raw


@bounded
@given(st.text("AQgwEIMU048zZ-_", max_size=12))
def test_every_accepted_text_is_the_only_one_for_its_bytes(text: str) -> None:
    try:
        raw = base64url.decode(text)
    except ValueError:
        return
    assert base64url.encode(raw) == text


@pytest.mark.parametrize("text", ["QQ==", "Q Q", "QQ\n", "Q", "QR", "QUF", "a+b/", "ＱＱ", "QQ=", "é"])
def test_padding_white_space_other_alphabets_and_stray_bits_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="canonical"):
        base64url.decode(text)
