"""The address of Redis, as one text."""

import pytest

from verifier.store.servers import Credentials, RedisServers, Topology, parse


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", RedisServers(Topology.SINGLE, (("cache", 6379),))),
        ("redis://cache:6380/3", RedisServers(Topology.SINGLE, (("cache", 6380),), db=3)),
        ("rediss://[::1]:6380", RedisServers(Topology.SINGLE, (("::1", 6380),), tls=True)),
        (
            "redis://user:p%40ss%3A@cache",
            RedisServers(Topology.SINGLE, (("cache", 6379),), credentials=Credentials("user", "p@ss:")),
        ),
        (
            "redis://:secret@cache",
            RedisServers(Topology.SINGLE, (("cache", 6379),), credentials=Credentials(None, "secret")),
        ),
        ("unix:///run/redis.sock", RedisServers(Topology.SINGLE, (), path="/run/redis.sock")),
        (
            "unix://user:secret@/run/redis.sock",
            RedisServers(Topology.SINGLE, (), path="/run/redis.sock", credentials=Credentials("user", "secret")),
        ),
        (
            "redis+sentinel://a,b:26380/main/2",
            RedisServers(Topology.SENTINEL, (("a", 26379), ("b", 26380)), service="main", db=2),
        ),
        (
            "rediss+cluster://a:1,b",
            RedisServers(Topology.CLUSTER, (("a", 1), ("b", 6379)), tls=True),
        ),
    ],
)
def test_an_address_names_servers(url: str, expected: RedisServers) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://cache", "expected redis://"),
        ("redis+other://cache", "expected redis://"),
        ("cache:6379", "expected redis://"),
        ("redis://", "expected host:port"),
        ("redis://cache:port", "expected host:port"),
        ("redis://a,b", "several hosts need"),
        ("redis://cache/main", "expected the number of a database"),
        ("redis://cache?socket_timeout=60", "takes no options"),
        ("redis+sentinel://a", "expected the name of the service"),
        ("redis+cluster://a/1", "a Cluster has no database but 0"),
        ("unix://", "expected unix:///"),
    ],
)
def test_an_address_that_is_none_says_what_was_expected(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse(url)


@pytest.mark.parametrize("url", ["redis://user:hidden@", "redis://:hidden@cache/x", "http://user:hidden@cache"])
def test_a_refusal_does_not_show_the_password(url: str) -> None:
    with pytest.raises(ValueError, match="expected") as refusal:
        parse(url)
    assert "hidden" not in str(refusal.value)


def test_servers_do_not_show_their_password() -> None:
    assert "hidden" not in repr(parse("redis://user:hidden@cache"))
