"""`emokernel demo`: a small language model speaks with emotion, and a judge listens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from emokernel import patch
from emokernel.atomic import write_text
from emokernel.bench.decode import compare
from emokernel.bench.decode_plot import latency as plot_latency
from emokernel.demo.evaluation import short_evaluation
from emokernel.demo.model import load_model, openings
from emokernel.demo.tables import samples, tables
from emokernel.demo.vectors import load_vectors
from emokernel.extras import need
from emokernel.lab.evaluate.goals import verdicts
from emokernel.lab.report import write_report
from emokernel.machine import machine

LATENCY, LATENCY_PLOT = "latency.json", "latency.png"


def demo(
    output: Path, seeds: int = 3, chosen: Sequence[str] | None = None, rounds: int = 60
) -> None:
    """Run the short form of the evaluation and time decoding; all files go into ``output``.

    ``chosen`` openings, all sixty unless given; ``rounds`` of timing.
    """
    need("jinja2")
    need("matplotlib")
    need("sklearn")
    output.mkdir(parents=True, exist_ok=True)
    vectors = load_vectors()
    model, _ = load_model()
    steering = patch(model, vectors)
    print(steering.report(), flush=True)
    steering.unpatch()
    results = short_evaluation(output, vectors, chosen or openings(), seeds)
    written = [path.name for path in write_report(output, results)]
    times = compare(model, vectors, rounds=rounds)
    medians = {name: median(each) for name, each in times.items()}
    told_times = {"milliseconds": medians, "machine": machine()}
    write_text(output / LATENCY, json.dumps(told_times, indent=1) + "\n")
    plot_latency(output / LATENCY_PLOT, times, f"Decoding, embedded model, {machine()['cpu']}")
    print(samples(results), tables(results), _latency(medians), verdicts(results.goals), sep="\n\n")
    print(f"\nWrote {', '.join([*written, LATENCY, LATENCY_PLOT])} to {output}/")


def _latency(medians: dict[str, float]) -> str:
    lines = [f"Time per token of the embedded model on {machine()['cpu']}:"]
    reference = medians["unpatched"]
    for name, value in medians.items():
        lines.append(f"  {name:<15}{value:>8.3f} ms {value / reference:>8.2f}x")
    return "\n".join(lines)
