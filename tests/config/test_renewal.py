"""Whether one configuration may take the place of another, and what it changes."""

from typing import Any

import pytest

from tests.support import AUD, settings
from verifier.config import ConfigError, IssuerSettings, Settings, renewal
from verifier.core.revoking import LONGEST_LEEWAY


def made(*names: str, **changes: Any) -> Settings:
    issuers = [{"name": name, "issuer": f"https://{name}.example", "audiences": [AUD]} for name in names or ("one",)]
    return settings(*issuers, **changes)


def refused(old: Settings, new: Settings) -> set[str]:
    with pytest.raises(ConfigError) as caught:
        renewal.check(old, new)
    return {problem.path for problem in caught.value.problems}


def test_everything_that_is_fixed_is_told_at_once() -> None:
    new = made(listen="127.0.0.1:1", workers=2, event_loop="asyncio", socket_mode="0600", drain_delay="1s")
    assert refused(made(), new) == {"listen", "workers", "event_loop", "socket_mode"}


@pytest.mark.parametrize("name", renewal.FIXED)
def test_what_is_fixed_is_a_key_of_the_configuration(name: str) -> None:
    assert name in Settings.model_fields


def test_whatever_else_changes_may() -> None:
    new = made("one", "two", routes=[{"path": "/a", "deny": True}], cache={"max_entries": 10}, fast_lane=False)
    renewal.check(made(), new)


def test_changes_are_named_by_their_key() -> None:
    assert renewal.changes(made(), made("one", "two", drain_delay="1s")) == ("issuers", "drain_delay")


def test_issuers_that_are_new_gone_or_different_changed() -> None:
    old, new = made("one", "two", "three"), made("one", "two", "four")
    (one, two, four) = new.issuers
    new = new.model_copy(update={"issuers": (one, two.model_copy(update={"leeway": 1.0}), four)})
    assert renewal.changed_issuers(old, new) == {"two", "three", "four"}


def test_the_number_of_a_configuration_is_the_same_for_the_same_and_holds_in_a_float() -> None:
    number = renewal.digest(made())
    assert number == renewal.digest(made())
    assert number != renewal.digest(made(drain_delay="1s"))
    assert int(float(number)) == number


def test_no_configuration_has_a_longer_leeway_than_revocations_reckon_with() -> None:
    bounds = IssuerSettings.model_fields["leeway"].metadata
    assert [bound.le for bound in bounds if hasattr(bound, "le")] == [LONGEST_LEEWAY]


def test_the_number_of_a_configuration_tells_nothing_of_a_password() -> None:
    """Which could be tried out until the number is the same."""
    one, other = (made(redis={"url": f"redis://u:{word}@cache", "trusted": True}) for word in ("one", "other"))
    assert renewal.digest(one) == renewal.digest(other)


def test_replicas_that_listen_elsewhere_have_the_same_number() -> None:
    assert renewal.digest(made()) == renewal.digest(made(listen="127.0.0.1:1", ops={"listen": "127.0.0.1:2"}))
