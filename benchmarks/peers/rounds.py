"""The timing of one case: rounds over all peers, each unpatched, unpatched again and steered.

The three of a peer follow each other, in an order that is shuffled from round to round, behind two
tokens of each kind that are not timed: what another process left in the caches, and what the
machine does meanwhile, is then alike for what is compared.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

from client import Failed, Refused, Worker
from shapes import Case, Model, prompts

from emokernel.bench.harness import FEWEST_ROUNDS, PairedRatio, compare_to, interleaved

WAYS = {"unpatched": "unpatched", "again": "unpatched", "steered": "steered"}
Readings = dict[str, list[dict[str, Any]]]  # by way, one of each round


@dataclass
class Timed:
    """A peer in a case: what was read so far, and why there is no more."""

    worker: Worker
    readings: Readings = field(default_factory=lambda: {way: [] for way in WAYS})
    memory: Readings = field(default_factory=lambda: {way: [] for way in WAYS})
    stopped: str | None = None

    def attempt(self, do: str, **arguments: Any) -> Any:
        """The answer; None if the peer cannot, now and later."""
        if self.stopped:
            return None
        try:
            return self.worker(do, **arguments)
        except (Refused, Failed) as reason:
            self.stopped = str(reason)
            return None


def measure_case(
    peers: Sequence[Timed],
    model: Model,
    case: Case,
    *,
    prompt_tokens: int,
    new_tokens: int,
    rounds: int,
    memory_rounds: int,
    seconds: float = math.inf,
    wrap: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> None:
    """Times ``peers``, which keep what was read if this is interrupted.

    After ``seconds`` there are no more rounds than an interval needs. Memory is read of the prompt
    and one token behind it.
    """
    rows = case.rows(model.emotions)
    ids = prompts(case.batch, prompt_tokens, model.vocabulary)
    asked = {"prompts": ids, "new_tokens": new_tokens}
    for peer in peers:
        peer.attempt("ask", rows=rows)
    shuffle = random.Random(0).shuffle
    calls = {peer.worker.name: partial(_ways, peer, asked, shuffle) for peer in peers}
    end = time.monotonic() + seconds
    every = interleaved(calls, rounds, 1, clock=lambda call: call(), wrap=wrap)
    for number, read in enumerate(every, 1):
        for peer in peers:
            _keep(peer.readings, read[peer.worker.name])
        if number >= FEWEST_ROUNDS and time.monotonic() > end:
            break
    short = {**asked, "new_tokens": 2}
    for _ in range(memory_rounds):
        for peer in peers:
            read = {way: peer.attempt("memory", how=how, **short) for way, how in WAYS.items()}
            _keep(peer.memory, read)


def _ways(
    peer: Timed, asked: dict[str, Any], shuffle: Callable[[list[str]], None]
) -> dict[str, dict[str, Any] | None]:
    """One round of a peer."""
    order = list(WAYS)
    shuffle(order)
    for how in dict.fromkeys(WAYS[way] for way in order):
        peer.attempt("decode", **{**asked, "how": how, "new_tokens": 2})
    return {way: peer.attempt("decode", how=WAYS[way], **asked) for way in order}


def _keep(readings: Readings, read: dict[str, dict[str, Any] | None]) -> None:
    if all(read.values()):
        for way, reading in read.items():
            readings[way].append(reading)


def row(peer: Timed, model: Model, case: Case) -> dict[str, Any]:
    """What is recorded of a peer in a case; ``empty`` says why, where no round was finished."""
    about = {"row": "case", "peer": peer.worker.name, "model": model.name, **case.fields()}
    about["distinct"] = len({str(mix) for mix in case.rows(model.emotions) if mix})
    about["steered_layers"] = len(model.layers)
    if not peer.readings["steered"]:
        return {**about, "empty": peer.stopped or "interrupted"}
    return {
        **about,
        **({"stopped": peer.stopped} if peer.stopped else {}),
        "rounds": len(peer.readings["steered"]),
        **_compared("token", _tokens(peer.readings), len(model.layers)),
        **_compared("first", {w: [r["first"] for r in peer.readings[w]] for w in WAYS}),
        **_memory(peer.memory),
    }


def _tokens(readings: Readings) -> dict[str, list[float]]:
    return {way: [median(each["steps"]) for each in readings[way]] for way in WAYS}


def _compared(
    what: str, seconds: Mapping[str, list[float]], layers: int | None = None
) -> dict[str, Any]:
    """Milliseconds by way and round, the ratio steered / unpatched and that of unpatched again.

    With ``layers`` the milliseconds that a token and steered layer take longer as well: the ratio's
    median and interval, times the median of the unpatched model.
    """
    ratio = compare_to(seconds["unpatched"], seconds["steered"])
    noise = compare_to(seconds["unpatched"], seconds["again"])
    base = 1e3 * median(seconds["unpatched"])
    told = {
        f"{what}_ms": {way: [1e3 * each for each in seconds[way]] for way in WAYS},
        f"{what}_ratio": _triple(ratio),
        f"{what}_noise": _triple(noise),
        f"{what}_seen": ratio.is_seen(noise),
    }
    if layers:
        added = [(value - 1) * base / layers for value in _triple(ratio)]
        told["added_ms_per_layer"] = added
    return told


def _triple(ratio: PairedRatio) -> list[float]:
    return [ratio.ratio, ratio.low, ratio.high]


def _memory(readings: Readings) -> dict[str, Any]:
    """Bytes that the peak of a generation is higher, steered; and unpatched a second time."""
    if not readings["steered"]:
        return {}
    peaks = {way: median(r["peak"] - r["before"] for r in readings[way]) for way in WAYS}
    noise = [r["peak"] - r["before"] for way in ("unpatched", "again") for r in readings[way]]
    return {
        "memory_bytes": peaks,
        "memory_added": peaks["steered"] - peaks["unpatched"],
        "memory_noise": max(noise) - min(noise),
    }
