from dataclasses import dataclass

from tests.support import NOW, claims, issuer, private_key, public_jwk, sign
from verifier.core import token
from verifier.core.claims import identify
from verifier.core.identity import Identity
from verifier.core.keys import Key, load_jwks
from verifier.store.memory import MemoryCache


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def key(which: int) -> Key:
    return load_jwks({"keys": [public_jwk(private_key("EdDSA", which=which))]}).keys[0]


TOKEN = sign(claims(NOW), algorithm="EdDSA")
IDENTITY = Identity(
    "main", "f", key(0), token.content_digest(TOKEN, opaque=False), identify(token.parse(TOKEN), issuer())
)


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_an_identity_is_found_by_its_digest_alone() -> None:
    cache = MemoryCache(10, 60.0, Clock())
    cache.put(digest(1), IDENTITY, good=True)
    known = cache.get(digest(1))
    assert known is not None
    assert known.identity is IDENTITY
    assert cache.get(digest(2)) is None


def test_an_identity_leaves_when_its_time_is_over() -> None:
    clock = Clock()
    cache = MemoryCache(10, 60.0, clock)
    cache.put(digest(1), IDENTITY, good=True)
    clock.now = 60.0
    assert cache.get(digest(1)) is None
    assert len(cache) == 0


def test_the_oldest_leaves_first() -> None:
    cache = MemoryCache(10, 60.0, Clock())
    for number in range(11):
        cache.put(digest(number), IDENTITY, good=True)
    assert [cache.get(digest(number)) is None for number in range(11)] == [True] + [False] * 10


def test_it_is_told_who_left_for_want_of_room_and_not_as_its_time_was_over() -> None:
    clock, evicted = Clock(), []
    cache = MemoryCache(10, 60.0, clock, lambda: evicted.append(clock.now))
    for number in range(12):
        cache.put(digest(number), IDENTITY, good=True)
    clock.now = 60.0
    for number in range(12, 17):
        cache.put(digest(number), IDENTITY, good=True)
    assert evicted == [0.0, 0.0]


def test_there_is_room_for_good_and_bad() -> None:
    assert MemoryCache(20, 60.0, Clock()).capacity == 22


def test_the_room_of_the_bad_is_smaller_and_their_own() -> None:
    cache = MemoryCache(20, 60.0, Clock())
    cache.put(digest(0), IDENTITY, good=True)
    for number in range(1, 100):
        cache.put(digest(number), IDENTITY, good=False)
    assert cache.get(digest(0)) is not None
    assert len(cache) == 3


def test_a_token_is_in_one_room_at_a_time() -> None:
    cache = MemoryCache(20, 60.0, Clock())
    cache.put(digest(1), IDENTITY, good=False)
    cache.put(digest(1), IDENTITY, good=True)
    assert len(cache) == 1


def test_what_an_issuer_said_of_an_opaque_token_outlives_its_keys() -> None:
    cache = MemoryCache(20, 60.0, Clock())
    cache.put(digest(1), IDENTITY._replace(key=None), good=True)
    cache.retain("main", frozenset({key(1)}))
    assert cache.get(digest(1)) is not None


def test_identities_leave_with_the_key_that_verified_them() -> None:
    cache = MemoryCache(20, 60.0, Clock())
    cache.put(digest(1), IDENTITY, good=True)
    cache.put(digest(2), IDENTITY._replace(key=key(1)), good=False)
    cache.put(digest(3), IDENTITY._replace(issuer_name="other"), good=True)
    cache.retain("main", frozenset({key(1)}))
    assert [cache.get(digest(number)) is None for number in (1, 2, 3)] == [True, False, False]


def test_with_less_room_the_newest_stay() -> None:
    cache = MemoryCache(20, 60.0, Clock())
    for number in range(20):
        cache.put(digest(number), IDENTITY, good=True)
    cache.resize(10, 60.0)
    assert [cache.get(digest(number)) is None for number in (9, 10, 19)] == [True, False, False]
    cache.put(digest(20), IDENTITY, good=True)
    assert len(cache) == 10


def test_the_room_of_the_bad_shrinks_too() -> None:
    cache = MemoryCache(40, 60.0, Clock())
    for number in range(4):
        cache.put(digest(number), IDENTITY, good=False)
    cache.resize(10, 60.0)
    assert len(cache) == 1


def test_another_time_is_for_what_comes_from_then_on() -> None:
    clock = Clock()
    cache = MemoryCache(20, 60.0, clock)
    cache.put(digest(1), IDENTITY, good=True)
    cache.resize(20, 10.0)
    cache.put(digest(2), IDENTITY, good=True)
    clock.now = 20.0
    assert [cache.get(digest(number)) is None for number in (1, 2)] == [False, True]


def test_the_tokens_of_an_issuer_can_be_forgotten() -> None:
    cache = MemoryCache(20, 60.0, Clock())
    cache.put(digest(1), IDENTITY, good=True)
    cache.put(digest(2), IDENTITY._replace(key=None), good=False)
    cache.put(digest(3), IDENTITY._replace(issuer_name="other"), good=True)
    cache.forget({"main"})
    assert [cache.get(digest(number)) is None for number in (1, 2, 3)] == [True, True, False]
