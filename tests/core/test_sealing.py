import secrets

import pytest

from tests.support import NOW
from verifier.core.sealing import ENTROPY_BYTES, Refusal, Refused, Sealer

KEY, OLD_KEY = bytes(range(32)), bytes(range(1, 33))
ENTROPY = bytes(range(ENTROPY_BYTES))
SEALER = Sealer([KEY])
ENTRY = SEALER.seal("place", b"content", NOW + 10, ENTROPY)


def refused(entry: bytes, place: str = "place", sealer: Sealer = SEALER, now: float = NOW) -> Refusal:
    with pytest.raises(Refused) as refusal:
        sealer.open(place, entry, now)
    return refusal.value.cause


def test_what_was_sealed_opens_in_its_place() -> None:
    assert SEALER.open("place", ENTRY, NOW) == b"content"


def test_an_empty_content_is_one() -> None:
    assert SEALER.open("p", SEALER.seal("p", b"", NOW + 1, ENTROPY), NOW) == b""


def test_an_entry_shows_nothing_of_its_content() -> None:
    assert b"content" not in ENTRY
    assert "1" not in repr(SEALER)


def test_equal_contents_look_different() -> None:
    assert SEALER.seal("place", b"content", NOW + 10, bytes(ENTROPY_BYTES))[33:] != ENTRY[33:]


def test_an_entry_moved_to_another_place_does_not_open() -> None:
    assert refused(ENTRY, "elsewhere") is Refusal.FORGED


def test_an_entry_opens_until_the_second_before_its_end() -> None:
    assert SEALER.open("place", ENTRY, NOW + 9.9) == b"content"
    assert refused(ENTRY, now=NOW + 10) is Refusal.EXPIRED


@pytest.mark.parametrize("place", range(1, len(ENTRY)))
def test_an_entry_with_one_bit_changed_does_not_open(place: int) -> None:
    changed = bytearray(ENTRY)
    changed[place] ^= 1
    assert refused(bytes(changed)) in (Refusal.FORGED, Refusal.OTHER_KEY)


@pytest.mark.parametrize("length", range(len(ENTRY)))
def test_an_entry_that_was_cut_does_not_open(length: int) -> None:
    assert refused(ENTRY[:length]) in (Refusal.FORGED, Refusal.FORMAT)


@pytest.mark.parametrize("entry", [b"", b"\x02" + ENTRY[1:], b"{}" * 40])
def test_another_format_is_not_looked_at(entry: bytes) -> None:
    assert refused(entry) is Refusal.FORMAT


def test_an_entry_of_another_key_does_not_open() -> None:
    assert refused(Sealer([OLD_KEY]).seal("place", b"content", NOW + 10, ENTROPY)) is Refusal.OTHER_KEY


def test_a_previous_key_opens_and_no_longer_seals() -> None:
    rotated = Sealer([OLD_KEY, KEY])
    assert rotated.open("place", ENTRY, NOW) == b"content"
    assert refused(rotated.seal("place", b"content", NOW + 10, ENTROPY)) is Refusal.OTHER_KEY


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b""]])
def test_a_key_has_32_bytes(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(keys)


def test_randomness_is_not_left_out() -> None:
    with pytest.raises(ValueError, match="28 random"):
        SEALER.seal("place", b"", NOW, b"")


def test_an_entry_is_ours_alone_if_the_first_key_sealed_it() -> None:
    first, second = secrets.token_bytes(32), secrets.token_bytes(32)
    entry = Sealer([first]).seal("place", b"x", NOW + 1, secrets.token_bytes(ENTROPY_BYTES))
    assert Sealer([first, second]).is_own(entry)
    assert not Sealer([second, first]).is_own(entry)


def test_a_name_is_the_same_for_all_who_have_the_key_and_for_nobody_else() -> None:
    key, other = secrets.token_bytes(32), secrets.token_bytes(32)
    assert Sealer([key]).name(b"digest") == Sealer([key, other]).name(b"digest")
    assert Sealer([key]).name(b"digest") != Sealer([other]).name(b"digest")
    assert Sealer([key]).name(b"digest") != Sealer([key]).name(b"another")
