"""Whether traces are wanted.

There is no key for it: the variables are OpenTelemetry's own, whose SDK reads most of them by itself. What is here
decides whether there is an SDK at all, and refuses what it would silently take for the default: a misspelled sampler
would record everything.
"""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from verifier.config.loading import ConfigError, Problem

EXPORTER = "OTEL_TRACES_EXPORTER"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SAMPLER = "OTEL_TRACES_SAMPLER"
RATIO = "OTEL_TRACES_SAMPLER_ARG"

PARENT_BASED = "parentbased_"
SAMPLERS = ("always_on", "always_off", "traceidratio")
_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """``exporter``: who gets the spans. ``follows``: a request's ``traceparent`` is the parent of its decision.

    ``parents_decide``: what has a parent is recorded where that is. ``ratio``: of all others, how many are.
    """

    exporter: Literal["otlp", "console"]
    follows: bool = True
    parents_decide: bool = True
    ratio: float = 1.0


def tracing_settings() -> TracingSettings | None:
    """None where no traces are asked for. Raises ``ConfigError`` with everything that keeps them from being made."""
    if _said("OTEL_SDK_DISABLED").lower() == "true":
        return None
    exporter = _said(EXPORTER).lower() or ("otlp" if any(map(_said, ENDPOINTS)) else "none")
    if exporter == "none":
        return None
    problems = (*_exporter(exporter), *_protocol(exporter), *_sampler(), *_missing())
    if problems:
        raise ConfigError(problems)
    propagators = _said("OTEL_PROPAGATORS").lower() or "tracecontext"
    follows = "tracecontext" in (name.strip() for name in propagators.split(","))
    sampler = _said(SAMPLER).lower() or "parentbased_always_on"
    return TracingSettings(
        exporter="console" if exporter == "console" else "otlp",
        follows=follows,
        parents_decide=sampler.startswith(PARENT_BASED),
        ratio=_ratio(sampler.removeprefix(PARENT_BASED)),
    )


def _said(name: str) -> str:
    """An empty variable is as good as none."""
    return os.environ.get(name, "").strip()


def _exporter(exporter: str) -> tuple[Problem, ...]:
    known = exporter in {"otlp", "console"}
    return () if known else (Problem(EXPORTER, f"expected otlp, console or none, found {exporter!r}"),)


def _protocol(exporter: str) -> tuple[Problem, ...]:
    name = next(filter(_said, PROTOCOLS), None)
    if exporter != "otlp" or name is None or _said(name) == "http/protobuf":
        return ()
    advice = "give http/protobuf, and an endpoint that takes it (a collector's port 4318)"
    return (Problem(name, f"expected http/protobuf, found {_said(name)!r}: {advice}"),)


def _sampler() -> tuple[Problem, ...]:
    sampler, ratio = _said(SAMPLER).lower(), _said(RATIO)
    if not sampler:
        return ()
    if sampler.removeprefix(PARENT_BASED) not in SAMPLERS:
        known = ", ".join((*SAMPLERS, *(f"{PARENT_BASED}{name}" for name in SAMPLERS)))
        return (Problem(SAMPLER, f"expected one of {known}; found {sampler!r}"),)
    if sampler.endswith("traceidratio") and not _is_ratio(ratio):
        return (Problem(RATIO, f"expected a number from 0 to 1, such as 0.01, found {ratio!r}"),)
    return ()


def _ratio(sampler: str) -> float:
    return float(_said(RATIO)) if sampler == "traceidratio" else float(sampler == "always_on")


def _is_ratio(text: str) -> bool:
    try:
        return 0.0 <= float(text) <= 1.0
    except ValueError:
        return False


def _missing() -> tuple[Problem, ...]:
    if all(map(_is_there, _NEEDED)):
        return ()
    asking = next(filter(_said, (EXPORTER, *ENDPOINTS)))
    advice = "pip install '.[otel]' in the project's folder, into the environment of this command"
    return (Problem(asking, f"asks for traces, which need the extra otel: {advice}"),)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even its package
        return False
