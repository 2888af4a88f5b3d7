"""Counts for what happens tens of thousands of times a second.

prometheus_client's counters and histograms take a lock for each addition, which costs more than the addition. These
are for the thread of the event loop alone: it counts, and it collects.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from time import time

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString


class Count:
    """Add to ``value``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class TalliedCounter(Collector):
    """A counter: one ``Count`` for each combination of labels."""

    def __init__(self, name: str, means: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._means, self._labels = name, means, labels
        self._counts: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def of(self, *values: str) -> Count:
        """That of these labels, in the order of the declaration."""
        count = self._counts.get(values)
        if count is None:
            count = self._counts[values] = Count()
        return count

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._means, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count.value)
        yield family


class Durations:
    """How many took how long, by ``bounds`` in seconds; and the newest one of a trace in each bucket, if any."""

    __slots__ = ("_bounds", "examples", "numbers", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.numbers = [0] * (len(bounds) + 1)
        self.examples: list[Exemplar | None] = [None] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.numbers[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds

    def add_traced(self, seconds: float, trace_id: str) -> None:
        """As ``add``, with a trace in which a reader finds what took the time."""
        self.add(seconds)
        self.examples[bisect_left(self._bounds, seconds)] = Exemplar({"trace_id": trace_id}, seconds, time())


class TalliedHistogram(Collector):
    """A histogram with one label: ``Durations`` for each of its values."""

    def __init__(self, name: str, means: str, label: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._means, self._label, self._bounds = name, means, label, bounds
        self._durations: dict[str, Durations] = {}
        registry.register(self)

    def of(self, value: str) -> Durations:
        durations = self._durations.get(value)
        if durations is None:
            durations = self._durations[value] = Durations(self._bounds)
        return durations

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._means, labels=(self._label,))
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for value, durations in self._durations.items():
            found = zip(names, accumulate(durations.numbers), durations.examples, strict=True)
            buckets = [(name, count) if example is None else (name, count, example) for name, count, example in found]
            family.add_metric((value,), buckets, durations.total)
        yield family
