"""Durations of tokens, counted in less than a microsecond each.

The library's own Histogram and Counter take three microseconds together, of the one interpreter
that also batches: at ten thousand tokens a second that is 3 % of all that it can do.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

# Seconds. A small model on a GPU needs about one millisecond a token; whoever waits for a minute
# has long given up.
BUCKETS = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
    0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0,
)  # fmt: skip
_BOUNDS = [floatToGoString(bound) for bound in (*BUCKETS, math.inf)]


class Durations:
    """How many durations fell into each bucket, and their sum; safe to use from any thread."""

    __slots__ = ("_counts", "_lock", "_sum")

    def __init__(self) -> None:
        self._lock, self._sum, self._counts = threading.Lock(), 0.0, [0] * len(_BOUNDS)

    def observe(self, seconds: float) -> None:
        """Count one."""
        bucket = bisect_left(BUCKETS, seconds)
        with self._lock:
            self._counts[bucket] += 1
            self._sum += seconds

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """(The cumulative counts by upper bound, the last of which is infinite; the sum)."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        so_far, buckets = 0, []
        for bound, count in zip(_BOUNDS, counts, strict=True):
            so_far += count
            buckets.append((bound, so_far))
        return buckets, total


class TokenDurations(Collector):
    """The metrics of all tokens: their number, and how long the first and the others took.

    ``first`` and ``following``: by the label "steered", which has the values of both.
    """

    def __init__(self, first: dict[str, Durations], following: dict[str, Durations]) -> None:
        self._first, self._following = first, following

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """What Prometheus reads."""
        tokens = CounterMetricFamily(
            "emokernel_generated_tokens", "Tokens that were generated.", labels=["steered"]
        )
        first = HistogramMetricFamily(
            "emokernel_time_to_first_token_seconds",
            "From the arrival of a request to its first token, waiting in the queue included.",
            labels=["steered"],
        )
        following = HistogramMetricFamily(
            "emokernel_time_per_token_seconds",
            "From one token of a text to its next.",
            labels=["steered"],
        )
        for label in self._first:
            number = 0.0
            for family, durations in ((first, self._first), (following, self._following)):
                buckets, total = durations[label].read()
                family.add_metric([label], buckets, total)
                number += buckets[-1][1]
            tokens.add_metric([label], number)
        yield from (tokens, first, following)
