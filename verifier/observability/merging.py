"""The metrics of several processes as those of one. Pure: families in, families out.

Counters and histograms are sums, and of exemplars the newest stays. Of gauges, only whoever declares one knows what it
is for all of them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

from prometheus_client import Metric
from prometheus_client.samples import Exemplar, Sample


class How(StrEnum):
    """How gauges are put together."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


_WAYS: Mapping[How, Callable[[Iterable[float]], float]] = {How.SUM: math.fsum, How.MAX: max, How.MIN: min}

OF_PROCESSES: Mapping[str, How] = {
    "process_virtual_memory_bytes": How.SUM,
    "process_resident_memory_bytes": How.SUM,
    "process_open_fds": How.SUM,
    "process_max_fds": How.SUM,
    "process_start_time_seconds": How.MIN,
    "python_info": How.MAX,
}
"""Those gauges that the client library brings along."""

_Place = tuple[str, tuple[tuple[str, str], ...]]


def merged(processes: Iterable[Iterable[Metric]], gauges: Mapping[str, How]) -> tuple[Metric, ...]:
    """The families of all ``processes``. ``gauges`` says by the name of a family how its values are put together.

    Families and samples keep the order in which they first come, in which the buckets of a histogram must stay.
    Raises ``KeyError`` for a gauge that ``gauges`` does not know.
    """
    families: dict[str, Metric] = {}
    values: dict[str, dict[_Place, list[Sample]]] = {}
    for process in processes:
        for family in process:
            families.setdefault(family.name, family)
            found = values.setdefault(family.name, {})
            for sample in family.samples:
                place = (sample.name, tuple(sample.labels.items()))
                found.setdefault(place, []).append(sample)
    return tuple(_family(families[name], found, gauges) for name, found in values.items())


def counted(families: Iterable[Metric]) -> tuple[Metric, ...]:
    """What stays of a process that has ended: what it counted, and not how it was."""
    return tuple(family for family in families if family.type != "gauge")


def _family(form: Metric, found: Mapping[_Place, Sequence[Sample]], gauges: Mapping[str, How]) -> Metric:
    how = gauges[form.name] if form.type == "gauge" else How.SUM
    made = Metric(form.name, form.documentation, form.type, form.unit)
    made.samples = [
        Sample(name, dict(labels), _together(how, [one.value for one in samples]), exemplar=_newest(samples))
        for (name, labels), samples in found.items()
    ]
    return made


def _newest(samples: Iterable[Sample]) -> Exemplar | None:
    exemplars = [one.exemplar for one in samples if one.exemplar is not None]
    return max(exemplars, key=lambda one: float(one.timestamp or 0), default=None)


def _together(how: How, values: Sequence[float]) -> float:
    """NaN is what nobody knows, and so the worst."""
    return math.nan if any(map(math.isnan, values)) else _WAYS[how](values)
