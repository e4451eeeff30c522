"""What a server counts and times, for Prometheus to read.

The names of the metrics and the values of their labels are a contract with those who watch the
server (docs/serving.md lists them). No label holds what a client chose.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

# Seconds. A small model on a GPU needs about one millisecond a token; whoever waits for a minute
# has long given up.
BUCKETS = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
    0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0,
)  # fmt: skip

# Paths that end in what a client chose.
_OPEN = {"/v1/emotions/streams/": "{token}", "/v1/models/": "{name}"}
# What requests are counted under; any other path is "other".
ENDPOINTS = frozenset(
    (
        "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/models", "/v1/emotions",
        "/v1/emotions/read", "/v1/emotions/compare", "/health", "/ready", "/metrics",
        *(begin + end for begin, end in _OPEN.items()),
    )
)  # fmt: skip
# Why a request was not begun, as `emokernel.serve.front.errors` says it; any other is "other".
REASONS = frozenset(
    (
        "body", "busy", "conflict", "content_type", "draining", "head", "key", "not_allowed",
        "not_found", "slots", "slow", "too_large", "unavailable",
    )
)  # fmt: skip
_OTHER = "other"


class Timing:
    """When the tokens of one text come, from `Metrics.begun` on; of one thread at a time."""

    def __init__(self, first: Histogram, following: Histogram, generated: Counter) -> None:
        self._first, self._following, self._generated = first, following, generated
        self._last, self.tokens = time.perf_counter(), 0

    def token(self) -> None:
        """One more token was generated, now."""
        now = time.perf_counter()
        (self._following if self.tokens else self._first).observe(now - self._last)
        self._generated.inc()
        self._last = now
        self.tokens += 1


class Metrics:
    """The metrics of one server, in a registry of their own; safe to use from any thread."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self._requests = Counter(
            "emokernel_requests",
            "Requests that were answered, by endpoint, status of the answer and whether steered.",
            ["endpoint", "status", "steered"],
            registry=registry,
        )
        first = Histogram(
            "emokernel_time_to_first_token_seconds",
            "From the arrival of a request to its first token, waiting in the queue included.",
            ["steered"], buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        following = Histogram(
            "emokernel_time_per_token_seconds", "From one token of a text to its next.",
            ["steered"], buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        generated = Counter(
            "emokernel_generated_tokens", "Tokens that were generated.", ["steered"],
            registry=registry,
        )  # fmt: skip
        # What there is from the start has rates from the start.
        self._timed = {
            label: [each.labels(label) for each in (first, following, generated)]
            for label in ("false", "true")
        }
        prompts = Counter(
            "emokernel_prompt_tokens", "Tokens of prompts.", ["steered"], registry=registry
        )
        self._prompts = {label: prompts.labels(label) for label in ("false", "true")}
        self._hang_ups = Counter(
            "emokernel_hang_ups", "Clients that left before their answer.", registry=registry
        )
        refused = Counter(
            "emokernel_refused", "Requests that were not begun.", ["reason"], registry=registry
        )
        self._refused = {reason: refused.labels(reason) for reason in sorted({*REASONS, _OTHER})}
        told = {
            "slots": "Different mixes of emotions that there can be at a time.",
            "slots_in_use": "Different mixes of emotions that running requests hold.",
            "requests_running": "Texts that are being generated.",
            "requests_waiting": "Texts that wait to be generated.",
        }
        self._gauges = {
            name: Gauge(f"emokernel_{name}", text, registry=registry) for name, text in told.items()
        }

    def request(self, endpoint: str, status: int, steered: bool) -> None:
        """One request was answered; ``endpoint``: its path, or one of `ENDPOINTS`."""
        if endpoint not in ENDPOINTS:
            ends = (begin + end for begin, end in _OPEN.items() if endpoint.startswith(begin))
            endpoint = next(ends, _OTHER)
        told = str(int(status)) if 100 <= status <= 599 else _OTHER
        self._requests.labels(endpoint, told, _label(steered)).inc()

    def begun(self, steered: bool) -> Timing:
        """The timing of one text, from now on."""
        return Timing(*self._timed[_label(steered)])

    def prompt_tokens(self, number: int, steered: bool) -> None:
        """So many tokens of a prompt were taken in; ValueError for less than none."""
        self._prompts[_label(steered)].inc(number)

    def hang_up(self) -> None:
        """A client left before it had its answer."""
        self._hang_ups.inc()

    def refused(self, reason: str) -> None:
        """A request was not begun; ``reason``: one of `REASONS`."""
        self._refused.get(reason, self._refused[_OTHER]).inc()

    def watch(
        self,
        *,
        slots_in_use: Callable[[], float],
        slots: Callable[[], float],
        running: Callable[[], float],
        waiting: Callable[[], float],
    ) -> None:
        """What is asked, in the thread of the reader, whenever the metrics are read."""
        asked = {
            "slots": slots,
            "slots_in_use": slots_in_use,
            "requests_running": running,
            "requests_waiting": waiting,
        }
        for name, function in asked.items():
            self._gauges[name].set_function(function)

    def text(self) -> bytes:
        """All metrics as Prometheus reads them, of the type `content_type`."""
        return generate_latest(self._registry)


def _label(steered: bool) -> str:
    return "true" if steered else "false"
