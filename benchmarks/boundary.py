"""What does Python cost in a patched forward? Microseconds, for a boundary and for a forward.

    python benchmarks/boundary.py [--models embedded smollm2] [--dtypes float32] [--rounds N]

A *boundary* is a residual add and the norm behind it, which a patched model computes at once. In
decoding steps of one token, nobody steered and everybody, with one thread: a clock around each
residual add and norm, around the operation that they call, and around the decoder with and without
what emokernel does before. The rest of what they take is Python. Of the unpatched model the norms
alone, to which torch's adds come. The first decile of all calls, since a busy machine can hold one
up. Then whole steps without clocks, unpatched and patched in turn, as the ratio of first deciles.
Writes JSON lines to benchmarks/results.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from transformers import DynamicCache, PreTrainedModel

from emokernel import Steering, patch
from emokernel.bench import append
from emokernel.bench.decode import random_prompt
from emokernel.bench.stand_ins import random_vectors, sharing_weights
from emokernel.demo.models import load
from emokernel.patch.adds import Add, NormForward
from emokernel.patch.decoder_forward import DecoderForward

RESULTS = Path(__file__).parent / "results"
OPERATION = "add_steer_rms_norm"
Times = defaultdict[str, list[float]]


def decile(times: Sequence[float]) -> float:
    """The first decile, in microseconds."""
    return round(1e6 * sorted(times)[len(times) // 10], 2)


def timed(call: Callable, kept: list[float]) -> Callable:
    """``call`` with a clock around it."""

    def run(*args: object, **kwargs: object) -> object:
        began = time.perf_counter()
        result = call(*args, **kwargs)
        kept.append(time.perf_counter() - began)
        return result

    return run


@contextmanager
def clocks(times: Times) -> Iterator[None]:
    """Within it, models are patched with clocks around adds, norms and the decoder."""
    named = {"add": Add, "norm": NormForward, "decoder": DecoderForward}
    own = {kind: kind.__call__ for kind in named.values()}
    for name, kind in named.items():
        kind.__call__ = timed(own[kind], times[name])
    try:
        yield
    finally:
        for kind, call in own.items():
            kind.__call__ = call


def decoding_step(model: PreTrainedModel) -> Callable[[], None]:
    """One token behind a few, always the same."""
    tokens = random_prompt(model, 1, 5)
    cache = DynamicCache(config=model.config)
    model(input_ids=tokens[:, :4], past_key_values=cache, use_cache=True)

    def step() -> None:
        model(input_ids=tokens[:, 4:], past_key_values=cache, use_cache=True)
        cache.crop(-1)

    return step


def in_turn(steps: Sequence[Callable[[], None]], rounds: int) -> list[list[float]]:
    """The times of each step."""
    kept: list[list[float]] = [[] for _ in steps]
    for number in range(rounds + 3):
        for step, times in zip(steps, kept, strict=True):
            timed(step, times if number >= 3 else [])()
    return kept


def patched(model: PreTrainedModel, steers: bool) -> tuple[PreTrainedModel, Steering]:
    """A patched copy that steers everybody or nobody."""
    copy, vectors = sharing_weights(model), random_vectors(model)
    steering = patch(copy, vectors)
    steering.set(vectors.names[0] if steers else None)
    return copy, steering


def account(model: PreTrainedModel, steers: bool, rounds: int) -> dict[str, float]:
    """Microseconds: of a boundary its parts, and what is done once for a forward."""
    times: Times = defaultdict(list)
    with clocks(times):
        copy, steering = patched(model, steers)
        (placed,) = steering.placed
        operation = timed(getattr(placed.backend, OPERATION), times["operation"])
        placed.backend = replace(placed.backend, **{OPERATION: operation})
        (decoder,) = (m for m in copy.modules() if isinstance(m.forward, DecoderForward))
        decoder.forward.original = timed(decoder.forward.original, times["original"])
        step = decoding_step(copy)
        for kept in times.values():
            kept.clear()
        in_turn([step], rounds)
    alone = sharing_weights(model)
    for module in alone.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = timed(module.forward, times["unpatched norm"])
    in_turn([decoding_step(alone)], rounds)
    found = {name: decile(kept) for name, kept in times.items()}
    ours = found["add"] + found["norm"]
    outside = [whole - inner for whole, inner in zip(times["decoder"], times["original"])]  # noqa: B905
    return {
        "boundary": round(ours, 2), "operation": found["operation"],
        "python": round(ours - found["operation"], 2), "unpatched norm": found["unpatched norm"],
        "once for a forward": decile(outside),
    }  # fmt: skip


@torch.no_grad()
def measured(name: str, dtype: str, rounds: int) -> Iterator[dict[str, object]]:
    """A row for nobody and for everybody steered."""
    model = load(name, dtype=dtype)[0]
    for variant in ("nobody", "everybody"):
        steers = variant == "everybody"
        steps = [decoding_step(each) for each in (model, patched(model, steers)[0])]
        plain, ours = map(decile, in_turn(steps, rounds))
        yield {
            "model": name, "dtype": dtype, "variant": variant, "rounds": rounds, "threads": 1,
            "us": account(model, steers, rounds), "step": plain, "ratio": round(ours / plain, 3),
        }  # fmt: skip


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["embedded", "smollm2"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        for dtype in options.dtypes:
            for row in measured(name, dtype, options.rounds):
                print(row)
                path = append(options.output, "boundary", [row])
    print(f"appended to {path}")


if __name__ == "__main__":
    main()
