"""What does steering cost one forward of a whole model? Each step of each variant back to back.

    python benchmarks/models.py [--models smollm2 random] [--dtypes fp32 bf16]
        [--modes eager compiled] [--batches 1 8 32] [--prompts 64 512] [--minutes M]

A decoding step of some sequences behind 64 tokens, eager and compiled, and the prompt of one
sequence, eager, as transformers' `generate` runs it. Every layer is steered at the end of its
block, under "preserve", by one vector for all: by emokernel, whose norms are fused there, and by a
plain hook, which computes the same. A round is one forward of each variant in shuffled order, the
unpatched model twice, each from the same state: the cache is cut back behind every step. Ratios are
paired by round and told with the 95 % interval of the sign test, in wall time and in processor
time of all threads. Eager variants have a cache each, the second unpatched one too, so that the
noise holds what the place in memory does; compiled ones share one.

Of --minutes each case takes an equal share of what is left, its preparation included (a compiled
one of smollm2 takes a minute or more for each variant), and ends sooner when its intervals are
narrower than --precision. Appends JSON lines to benchmarks/results as cases are finished.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from decode import CONTEXT, RESULTS, random_model
from tqdm import tqdm
from transformers import PreTrainedModel, StaticCache

from emokernel.bench import append, compare_to, median, now
from emokernel.bench.cases import Case
from emokernel.bench.decode import Decoding, random_prompt
from emokernel.bench.harness import PairedRatio, interleaved
from emokernel.bench.stand_ins import scaled_random_vectors
from emokernel.bench.variants import COMPILED, EAGER, HOOK, OURS, VARIANTS, Variant, with_baselines
from emokernel.demo.models import load
from emokernel.vectors import EmotionVectors

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
STEP, PROMPT = "step", "prompt"
FEWEST, MOST, WARM_UP = 20, 2000, 3  # rounds
# Times the unpatched model, of smollm2.
GOALS = {(STEP, EAGER): 0.98, (STEP, COMPILED): 1.01, (PROMPT, EAGER): 0.98}
Models = dict[str, Callable[[torch.dtype], PreTrainedModel]]
MODELS: Models = {
    "smollm2": lambda dtype: load("smollm2")[0].to(dtype),
    "random": random_model,
    "embedded": lambda dtype: load("embedded")[0].to(dtype),
}


@dataclass(frozen=True)
class Forward:
    """Which forward is measured: a "step" of ``batch`` sequences behind ``context`` tokens, or
    their "prompt" of so many."""

    what: str
    mode: str
    batch: int
    context: int

    def __str__(self) -> str:
        return f"{self.mode} {self.what}, batch {self.batch}, {self.context} tokens"


class Reading(NamedTuple):
    """Seconds of one forward: of the clock on the wall, and of the processor in all threads."""

    wall: float
    processor: float


class Repeated:
    """The forward of one variant, which can be read again and again from the same state."""

    def __init__(self, decoding: Decoding, what: str) -> None:
        self._decoding = decoding
        self._cache: Any = None
        if what == STEP:
            self._cache = decoding.empty_cache()
            decoding.read_prompt(self._cache)

    def read(self) -> Reading:
        """One forward; what it added to the cache is taken away again, untimed."""
        cache = self._decoding.empty_cache() if self._cache is None else self._cache
        run = self._decoding.read_prompt if self._cache is None else self._decoding.step
        wall, processor = time.perf_counter(), time.process_time()
        run(cache)
        reading = Reading(time.perf_counter() - wall, time.process_time() - processor)
        if self._cache is not None:
            cut_back(cache)
        return reading


def cut_back(cache: Any) -> None:
    """Take the last token out of a cache."""
    if not isinstance(cache, StaticCache):
        cache.crop(-1)
        return
    for layer in cache.layers:
        layer.cumulative_length.sub_(1)


def variants_of(mode: str, hook: bool) -> list[Variant]:
    """The unpatched model, the same again, the hook if wanted, and emokernel."""
    steering = {OURS, HOOK} if hook else {OURS}
    return with_baselines(
        name
        for name, variant in VARIANTS.items()
        if variant.mode == mode and variant.steering in steering and not variant.again
    )


def prepared(
    model: PreTrainedModel, vectors: EmotionVectors, forward: Forward, variants: Sequence[Variant]
) -> dict[str, Repeated]:
    """What is read of each variant, run once: compiled ones are compiled then."""
    prompt = random_prompt(model, forward.batch, forward.context)
    static = None
    if forward.mode == COMPILED:
        static = StaticCache(config=model.config, max_cache_len=forward.context + 8)
    case = Case(forward.batch, forward.context)
    decodings: dict[str, Decoding] = {}
    found: dict[str, Repeated] = {}
    for variant in (bar := tqdm(variants, leave=False)):
        bar.set_description(f"preparing {variant.label}")
        if not variant.again:
            decodings[variant.name] = Decoding(
                model, vectors, variant, prompt, 2, case=case, static=static
            )
            decodings[variant.name].ask(case)
        of = variant.baseline if variant.again else variant.name
        found[variant.name] = Repeated(decodings[of], forward.what)
        found[variant.name].read()
    return found


def measured(
    repeated: dict[str, Repeated], variants: Sequence[Variant], end: float, precision: float
) -> dict[str, list[Reading]]:
    """Readings by variant, until ``end`` or until all intervals are as narrow as asked."""
    readings: dict[str, list[Reading]] = {name: [] for name in repeated}
    calls = {name: each.read for name, each in repeated.items()}
    rounds = interleaved(calls, MOST, WARM_UP, clock=lambda read: read())
    for number, read in enumerate(tqdm(rounds, total=MOST, leave=False), start=1):
        for name, value in read.items():
            readings[name].append(value)
        if number < FEWEST:
            continue
        if time.monotonic() > end:
            break
        if number % FEWEST == 0 and widest(readings, variants) <= precision:
            break
    return readings


def ratio(readings: dict[str, list[Reading]], variant: Variant, clock: int) -> PairedRatio:
    """Of a variant to its baseline, by the wall (0) or the processor (1)."""
    own = ([reading[clock] for reading in readings[name]] for name in _pair(variant))
    return compare_to(*own)


def _pair(variant: Variant) -> tuple[str, str]:
    return variant.baseline, variant.name


def widest(readings: dict[str, list[Reading]], variants: Sequence[Variant]) -> float:
    """Half of the widest interval of a ratio in wall time."""
    told = [ratio(readings, each, 0) for each in variants if each.name != each.baseline]
    return max((each.high - each.low) / 2 for each in told)


def rows_of(
    about: dict[str, object], readings: dict[str, list[Reading]], variants: Sequence[Variant]
) -> Iterator[dict[str, object]]:
    """A row of results for each variant; ratios are ``[median, low, high]``."""
    for variant in variants:
        own = readings[variant.name]
        row = {
            **about,
            "variant": variant.name,
            "rounds": len(own),
            "ms": 1e3 * median(reading.wall for reading in own),
            "processor_ms": 1e3 * median(reading.processor for reading in own),
        }
        if variant.name != variant.baseline:
            for key, clock in (("ratio", 0), ("processor_ratio", 1)):
                found = ratio(readings, variant, clock)
                row[key] = [round(value, 4) for value in (found.ratio, found.low, found.high)]
        yield row


def line(row: dict) -> str:
    """A row in words."""
    if "ratio" not in row:
        return f"  {row['variant']:<28} {row['ms']:9.2f} ms   ({row['rounds']} rounds)"
    wall, processor = (
        "{:.3f} ({:.3f} to {:.3f})".format(*row[key]) for key in ("ratio", "processor_ratio")
    )
    told = f"  {row['variant']:<28} {row['ms']:9.2f} ms   {wall}   processor {processor}"
    goal = GOALS.get((row["what"], row["mode"]))
    if goal is None or row["model"] != "smollm2" or not VARIANTS[row["variant"]].is_ours:
        return told
    found, low, high = row["ratio"]
    doubt = ", but the goal is within the interval" if low <= goal <= high else ""
    return f"{told}   goal {goal}: {'met' if found <= goal else 'MISSED'}{doubt}"


def forwards(
    modes: Sequence[str], batches: Sequence[int], prompts: Sequence[int]
) -> Iterator[Forward]:
    """All that are wanted."""
    for mode in modes:
        yield from (Forward(STEP, mode, batch, CONTEXT) for batch in batches)
    if EAGER in modes:
        yield from (Forward(PROMPT, EAGER, 1, tokens) for tokens in prompts)


@torch.no_grad()
def main() -> None:
    """Measure, print and record every case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["smollm2", "random"])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--modes", nargs="*", choices=(EAGER, COMPILED), default=[EAGER, COMPILED])
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 32], help="of a step")
    parser.add_argument("--prompts", type=int, nargs="*", default=[64, 512], help="tokens")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--precision", type=float, default=0.005, help="half an interval")
    parser.add_argument("--hook", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    end, began = time.monotonic() + 60 * options.minutes, now()
    wanted = list(forwards(options.modes, options.batches, options.prompts))
    left = len(options.models) * len(options.dtypes) * len(wanted)
    for name in options.models:
        for dtype in options.dtypes:
            model = MODELS[name](DTYPES[dtype])
            vectors = scaled_random_vectors(model)
            for forward in wanted:
                until = time.monotonic() + (end - time.monotonic()) / left
                variants = variants_of(forward.mode, options.hook)
                readings = measured(
                    prepared(model, vectors, forward, variants), variants, until, options.precision
                )
                about = {"model": name, "dtype": dtype, **asdict(forward)}
                rows = list(rows_of(about, readings, variants))
                path = append(options.output, "models", rows, began)
                print(f"{name} {dtype}, {forward}", *map(line, rows), sep="\n", flush=True)
                left -= 1
                if forward.mode == COMPILED:  # torch keeps only so many
                    torch.compiler.reset()
                gc.collect()
    print(f"appended to {path}")


if __name__ == "__main__":
    main()
