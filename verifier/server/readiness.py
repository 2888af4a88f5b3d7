"""Whether this replica should be asked."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from verifier.remote.key_source import KeyStatus, RefreshingKeys
from verifier.store.revocations import RevocationList
from verifier.surfaces import answer
from verifier.surfaces.surface import Answer


@dataclass(frozen=True, slots=True)
class Keys:
    """Of one issuer. ``age`` is in seconds; None before they were fetched for the first time. ``next_look``: seconds
    until they are looked for again; ``max_stale``: seconds after which they are trusted no more."""

    usable: int
    age: float | None
    last_error: str | None
    next_look: float = 0.0
    max_stale: float = math.inf


@dataclass(frozen=True, slots=True)
class State:
    """How a process fares. ``settled``: it has tried everything that a start tries. ``unread``: seconds since the list
    of revocations was read. ``draining``: it is about to end."""

    ready: bool
    settled: bool
    issuers: Mapping[str, Keys]
    unread: float
    draining: bool = False


class Readiness:
    """That of this process. ``without_keys``: there are issuers that need none."""

    def __init__(
        self,
        sources: Mapping[str, RefreshingKeys],
        revocations: RevocationList,
        *,
        without_keys: bool,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._sources = sources
        self._revocations = revocations
        self._without_keys = without_keys
        self._is_draining = is_draining

    def is_ready(self) -> bool:
        return self.state().ready

    def state(self) -> State:
        """Ready when every issuer was asked once and one has usable keys, or needs none; and, for a while, when the
        revocations are known.

        One issuer's outage must not take the others' tokens down with it, so it does not make us unready. Without
        any keys at all we can do nothing but answer 503, and another replica may do better.
        """
        found: Mapping[str, KeyStatus] = {name: source.status() for name, source in self._sources.items()}
        settled = self._revocations.settled() and all(issuer.attempted for issuer in found.values())
        usable = self._without_keys or any(issuer.keys for issuer in found.values())
        draining = self._is_draining()
        return State(
            ready=settled and usable and not draining,
            settled=settled,
            issuers={name: _keys(status) for name, status in found.items()},
            unread=self._revocations.unread_for(),
            draining=draining,
        )


def _keys(found: KeyStatus) -> Keys:
    return Keys(found.keys, found.age, found.last_error, found.next_look, found.freshness.max_stale)


def of_all(states: Collection[State], unread: float, *, draining: bool = False) -> State:
    """That of several processes: ready when one is and none is not, and otherwise the worst of each.

    Those that are not settled take no part as long as another is: they came to replace one that was. ``unread`` is how
    long the list of revocations was not read besides. ``draining``: all of them are about to end.
    """
    counting = [state for state in states if state.settled]
    shown = counting or states
    return State(
        ready=bool(counting) and all(state.ready for state in counting) and not draining,
        settled=bool(counting),
        issuers={
            name: _worst([state.issuers[name] for state in shown if name in state.issuers])
            for name in dict.fromkeys(name for state in shown for name in state.issuers)
        },
        unread=max([unread, *(state.unread for state in shown)]),
        draining=draining,
    )


def _worst(of_one: Collection[Keys]) -> Keys:
    oldest = max(math.inf if keys.age is None else keys.age for keys in of_one)
    return Keys(
        usable=min(keys.usable for keys in of_one),
        age=None if math.isinf(oldest) else oldest,
        last_error=_first(keys.last_error for keys in of_one),
        next_look=max(keys.next_look for keys in of_one),
        max_stale=min(keys.max_stale for keys in of_one),
    )


def _first(errors: Iterable[str | None]) -> str | None:
    return next((error for error in errors if error is not None), None)


def shown(state: State) -> Answer:
    """What ``/readyz`` says."""
    issuers = {
        name: {"usable_keys": keys.usable, "age_seconds": keys.age, "last_error": keys.last_error}
        for name, keys in state.issuers.items()
    }
    revocations = {"unread_seconds": state.unread}
    body = {"ready": state.ready, "draining": state.draining, "issuers": issuers, "revocations": revocations}
    return answer.as_json(200 if state.ready else 503, body)
