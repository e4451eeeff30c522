"""Where does the time of a forward go, and which part of it is steering's?

    python benchmarks/where.py [--models smollm2 embedded] [--dtype float32] [--steps N]

A decoding step behind 64 tokens (1 and 32 sequences) and a prompt of 512, of the model as it is and
patched, with nobody and with everybody steered, under torch.profiler: the time of every operation
itself, by kind. What is left of the wall clock is Python, dispatch, and the profiler's own look at
every operation: a model of many small operations looks slower than it is, so that shares are told
and no times. Writes JSON lines and a picture to benchmarks/results.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm
from transformers import DynamicCache, PreTrainedModel

from emokernel import patch
from emokernel.atomic import save_figure
from emokernel.bench import append, read
from emokernel.bench.decode import random_prompt
from emokernel.bench.stand_ins import sharing_weights
from emokernel.demo.models import load, load_vectors
from emokernel.extras import need
from emokernel.vectors import EmotionVectors

RESULTS = Path(__file__).parent / "results"
STEERING, PYTHON = "emokernel's operations", "Python, dispatch, profiler"
# By the name of the operation; the first that fits.
KINDS = {
    STEERING: ("emokernel::",),
    "matrix products": ("::mm", "addmm", "::bmm", "linear", "mkldnn", "matmul"),
    "attention": ("attention",),
    "adds, norms, activations": (
        "::add", "::mul", "::pow", "::mean", "rsqrt", "silu", "::neg", "rms_norm", "::sub",
    ),
    "other operations of torch": (),
}  # fmt: skip
COLOURS = dict(zip([*KINDS, PYTHON], ("C3", "C0", "C1", "C2", "0.75", "0.9"), strict=True))
CASES = ((1, 64, 1), (32, 64, 1), (1, 0, 512))  # sequences, tokens in the cache, new tokens
VARIANTS = ("unpatched", "nobody", "everybody")


def kind(operation: str) -> str:
    """Which of `KINDS` an operation belongs to."""
    found = (name for name, signs in KINDS.items() if any(sign in operation for sign in signs))
    return next(found, "other operations of torch")


def shares(call: Callable[[], object], calls: int) -> dict[str, float]:
    """The share of each kind in the wall clock of ``calls`` calls."""
    call()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        began = time.perf_counter()
        for _ in range(calls):
            call()
        wall = 1e6 * (time.perf_counter() - began)
    spent: Counter[str] = Counter()
    for event in profiler.key_averages():
        spent[kind(event.key)] += event.self_cpu_time_total
    spent[PYTHON] = max(0.0, wall - sum(spent.values()))
    return {name: spent[name] / wall for name in COLOURS}


def forwards(
    model: PreTrainedModel, vectors: EmotionVectors, sequences: int, cached: int, new: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each variant, and one forward of it from the same cache on."""
    tokens = random_prompt(model, sequences, cached + new)
    patched = sharing_weights(model)
    steering = patch(patched, vectors)
    for variant in VARIANTS:
        steering.set(vectors.names[0] if variant == "everybody" else None)
        running = model if variant == "unpatched" else patched
        cache = DynamicCache(config=model.config)
        if cached:
            running(input_ids=tokens[:, :cached], past_key_values=cache, use_cache=True)

        def forward(running: PreTrainedModel = running, cache: DynamicCache = cache) -> None:
            running(
                input_ids=tokens[:, cached:], past_key_values=cache, use_cache=True,
                logits_to_keep=1,
            )  # fmt: skip
            cache.crop(-new)

        yield variant, forward


@torch.no_grad()
def measured(names: Sequence[str], dtype: str, steps: int) -> Iterator[dict[str, object]]:
    """A row for each model, case and variant."""
    for name in names:
        model = load(name)[0].to(getattr(torch, dtype))
        for sequences, cached, new in tqdm(CASES, desc=name):
            calls = max(2, steps // (sequences * new))
            for variant, forward in forwards(model, load_vectors(name), sequences, cached, new):
                yield {
                    "model": name, "dtype": dtype, "sequences": sequences, "cached": cached,
                    "new": new, "variant": variant, "calls": calls,
                    "shares": shares(forward, calls),
                }  # fmt: skip


def label(row: Mapping) -> str:
    """A row in words."""
    what = "decoding" if row["cached"] else f"a prompt of {row['new']}"
    return f"{row['model']}, {what}, {row['sequences']} x: {row['variant']}"


def draw(path: Path, rows: Sequence[Mapping]) -> None:
    """A bar of shares for each row."""
    size = 9, 0.9 + 0.28 * len(rows)
    axes = (
        figure := need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    ).subplots()
    left = [0.0] * len(rows)
    for name, colour in COLOURS.items():
        widths = [100 * row["shares"][name] for row in rows]
        axes.barh(range(len(rows)), widths, left=left, color=colour, label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(rows)), [label(row) for row in rows])
    axes.invert_yaxis()
    axes.set(xlabel="% of the time of a forward under the profiler", xlim=(0, 100))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    save_figure(figure, path, dpi=120)


def main() -> None:
    """Profile, print, record and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["smollm2", "embedded"])
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--steps", type=int, default=40, help="tokens that are run in each case")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    rows = list(measured(options.models, options.dtype, options.steps))
    for row in rows:
        told = ", ".join(f"{name} {100 * share:.1f} %" for name, share in row["shares"].items())
        print(f"{label(row)}: {told}")
    path = append(options.output, "where", rows)
    draw(path.with_suffix(".png"), read(path))
    print(f"appended to {path}; drawn in {path.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
