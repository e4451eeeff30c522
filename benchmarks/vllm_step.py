"""What does a step of vLLM cost the host, beside vLLM itself?

    python benchmarks/vllm_step.py [--quick] [--requests 1 32 256]

`StepRows` decides which slot each row has and copies what has changed, once a step. Its requests
decode, each a token and a mix of three emotions; 30 layers, 19 vectors of width 576, as many slots
as requests. Variants:

    unchanged  the requests of the step before
    one        one of them has ended, and one with another mix is in its place
    all        all of them have other mixes

One thread; what is copied stays on the CPU. Writes JSON lines to benchmarks/results.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from emokernel import bench
from emokernel.choices import POSITIONS
from emokernel.engines.vllm.asked import packed
from emokernel.engines.vllm.rows import StepRows
from emokernel.state import Asked, DeviceState, Mix

RESULTS = Path(__file__).parent / "results"
LAYERS, VECTORS, WIDTH, COMPONENTS, BATCHES = 30, 19, 576, 3, 8
# Milliseconds a step, of so many requests.
MOST_REQUESTS, GOALS = 256, {"unchanged": 0.05, "all": 0.3}


def requests(count: int) -> list[Mapping[str, Any]]:
    """So many requests as they come to the engine, each with a mix of its own."""
    generator, made = np.random.default_rng(0), []
    for _ in range(count):
        numbers = generator.choice(VECTORS, COMPONENTS, replace=False).tolist()
        weights = generator.uniform(-1, 1, COMPONENTS).tolist()
        mix = Mix(tuple(zip(numbers, weights, strict=True)))
        made.append(packed(Asked(mix, POSITIONS["all"]), "these vectors"))
    return made


def variants(count: int) -> dict[str, Callable[[], None]]:
    """One step of ``count`` requests each; every one goes on from the batch that it left."""
    tokens = np.ones(count, np.int32)
    numbers = 10 * tokens, 5 * tokens, tokens  # computed, of the prompt, of this step
    vectors = torch.randn(LAYERS, VECTORS, WIDTH, generator=torch.Generator().manual_seed(0))

    def rows(batch: list[Mapping[str, Any]]) -> StepRows:
        state = DeviceState(vectors, count, torch.device("cpu"), torch.float32)
        made = StepRows(state, count)
        made.batch(batch)
        made.step(*numbers)
        return made

    made = requests(count * BATCHES)
    batches = [made[start : start + count] for start in range(0, len(made), count)]
    running = list(batches[0])
    further = cycle(enumerate([*made[count:], *batches[0]]))
    kept, one, every = rows(running), rows(running), rows(batches[-1])
    coming = cycle(batches)

    def unchanged() -> None:
        kept.step(*numbers)

    def one_changed() -> None:
        number, request = next(further)
        running[number % count] = request
        one.batch(running)
        one.step(*numbers)

    def all_changed() -> None:
        every.batch(next(coming))
        every.step(*numbers)

    return {"unchanged": unchanged, "one": one_changed, "all": all_changed}


def measured(count: int, rounds: int) -> Iterator[dict[str, object]]:
    """One row of results a variant."""
    label = f"{count} requests"
    seconds = bench.measure(
        variants(count), rounds, wrap=lambda numbers: tqdm(numbers, desc=label, leave=False)
    )
    for name, times in seconds.items():
        yield {
            "requests": count, "variant": name, "rounds": rounds,
            "milliseconds": 1e3 * bench.median(times), "fastest": 1e3 * min(times),
        }  # fmt: skip


def told(row: Mapping[str, Any]) -> str:
    """A line of a result, with the goal if it has one."""
    line = (
        f"{row['requests']:>4} requests, {row['variant']:<9} {row['milliseconds']:7.3f} ms"
        f" (fastest {row['fastest']:.3f})"
    )
    goal = GOALS.get(row["variant"])
    if goal is None or row["requests"] != MOST_REQUESTS:
        return line
    return f"{line}   goal {goal} ms: {'met' if row['milliseconds'] <= goal else 'MISSED'}"


def main(arguments: list[str] | None = None) -> None:
    """Measure every number of requests and record it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, no record")
    parser.add_argument("--requests", type=int, nargs="+", default=[1, 32, MOST_REQUESTS])
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = [
            row
            for count in options.requests
            for row in measured(count, 50 if options.quick else 1000)
        ]
    finally:
        torch.set_num_threads(threads)
    print("\n".join(map(told, results)))
    if not options.quick:
        print(f"\nappended to {bench.append(options.output, 'vllm_step', results)}")


if __name__ == "__main__":
    main()
