"""Every check of a token that the administrator posted, with the keys and the configuration that are in use.

Nothing is kept of it: no cache, no log, no metric, no question to an issuer or to Redis.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from verifier.core import explanation, trial
from verifier.core.explanation import Besides, Outcome, Step
from verifier.core.issuer import Issuer, Issuers
from verifier.core.keys import KeySet
from verifier.core.policy import NOTHING
from verifier.core.routes import Routes
from verifier.core.token import Token
from verifier.core.trial import Explanation
from verifier.core.verdict import Principal
from verifier.engine import Question
from verifier.ports import KeySource, RevocationSource

_NOT_ASKED = "the issuer's word, for which it is not asked here"


@dataclass(frozen=True, slots=True)
class Explained:
    """``allowed`` is None where only the issuer can tell. ``reason`` is that of the first check that fails.

    ``report_only`` are the checks that fail by rules on trial, where it is allowed, and ``would_deny`` is the reason of
    the first.
    """

    allowed: bool | None
    reason: str | None
    steps: tuple[Step, ...]
    would_deny: str | None = None
    report_only: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Explainer:
    """``max_bytes`` is that of a token; ``clock`` gives seconds since 1970."""

    issuers: Issuers
    keys: Mapping[str, KeySource]
    revocations: RevocationSource
    routes: Routes
    max_bytes: int
    clock: Callable[[], float]

    def explain(self, question: Question) -> Explained:
        asked = explanation.only_asked(question.token or "", self.issuers)
        if asked:
            return _explained(Explanation((_word_of(asked),)))
        now = self.clock()
        return _explained(trial.explained(partial(self._steps, question, now), self.issuers, self.routes))

    def _steps(self, question: Question, now: float, issuers: Issuers, routes: Routes) -> tuple[Step, ...]:
        """Every check, by these issuers and routes."""
        checks = [explanation.revocation_step(self.revocations.held, now), _introspection_step]
        demands = question.requirement
        if question.target is not None:
            rule = routes.rule(question.target)
            asked_for = [explanation.demand_steps(demands, now)] if demands != NOTHING else []
            checks += [*asked_for, explanation.route_step(rule)]
            demands = rule.requirement
        return explanation.explain(
            question.token or "",
            issuers,
            self._keys_of,
            now,
            max_bytes=self.max_bytes,
            demands=demands,
            besides=_in_order(checks),
        )

    def _keys_of(self, issuer: Issuer) -> KeySet | str:
        return self.keys[issuer.name].current() or "not known now: see the issuer's last error"


def _in_order(checks: list[Besides]) -> Besides:
    def steps(principal: Principal, token: Token, issuer: Issuer) -> Iterator[Step]:
        for check in checks:
            yield from check(principal, token, issuer)

    return steps


def _introspection_step(_principal: Principal, _token: Token, issuer: Issuer) -> Iterator[Step]:
    if issuer.asked_about_jwts:
        yield Step("introspection", Outcome.NOT_REACHED, _NOT_ASKED, "")


def _word_of(issuers: tuple[Issuer, ...]) -> Step:
    names = ", ".join(issuer.name for issuer in issuers)
    return Step("introspection", Outcome.NOT_REACHED, _NOT_ASKED, f"would be asked: {names}")


def _explained(found: Explanation) -> Explained:
    reason, would_deny = found.reason, found.would_deny
    undecided = reason is None and any(step.outcome is Outcome.NOT_REACHED for step in found.steps)
    return Explained(
        allowed=None if undecided else reason is None,
        reason=None if reason is None else str(reason),
        steps=found.steps,
        would_deny=None if would_deny is None else str(would_deny),
        report_only=found.on_trial,
    )
