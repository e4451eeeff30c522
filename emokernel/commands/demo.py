"""`emokernel demo`: a small model speaks with emotion, a judge listens."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from emokernel.atomic import write_text
from emokernel.bench import machine, plots
from emokernel.bench.benchmark import BenchOptions, bench
from emokernel.bench.cases import Case
from emokernel.bench.summary import table
from emokernel.bench.variants import with_baselines
from emokernel.commands import evaluate
from emokernel.commands.arguments import EMBEDDED, positive
from emokernel.demo.model import load_model
from emokernel.demo.tables import samples, tables
from emokernel.demo.vectors import load_vectors
from emokernel.lab.evaluate.goals import verdicts
from emokernel.steering import patch

LATENCY, LATENCY_PLOT = "latency.json", "latency.png"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, default=Path("emokernel-demo"), help="folder (emokernel-demo)"
    )
    parser.add_argument("--seeds", type=positive, default=3, help="samples of each opening (3)")


def run(chosen: argparse.Namespace) -> None:
    """Run the demo."""
    demo(chosen.output, chosen.seeds)


def demo(output: Path, seeds: int = 3, openings: int = 60, rounds: int = 60) -> None:
    """Evaluate the embedded model at full strength alone, and time it; files go into ``output``.

    The first ``openings`` of the sixty; ``rounds`` of timing.
    """
    short = argparse.ArgumentParser()
    evaluate.add(short)
    options = (
        f"{EMBEDDED} --openings {openings} --seeds {seeds} --intensities 1 --strengths 1 --doses"
        " --restart --output"
    )
    chosen = short.parse_args([*options.split(), str(output)])
    results, written = evaluate.evaluated(chosen, one_law=True)
    vectors = load_vectors()
    model, _ = load_model()
    steering = patch(model, vectors)
    print(steering.report(), end="\n\n")
    steering.unpatch()
    ways = tuple(with_baselines(["plain_hook", "emokernel"]))
    (timed,) = bench(model, vectors, [Case()], BenchOptions(ways, 9, rounds, slots=1))
    medians = {row["variant"]: row["token_ms"] for row in timed.rows if "noise" not in row}
    facts = {"milliseconds": medians, "machine": machine()}
    write_text(output / LATENCY, json.dumps(facts, indent=1) + "\n")
    title = f"Time per token of the embedded model on {machine()['cpu']}"
    plots.latency(output / LATENCY_PLOT, timed.rows, title)
    timing = f"{title}, in ms:\n{table(timed.case, timed.rows)}"
    print(samples(results), tables(results), timing, verdicts(results.goals), sep="\n\n")
    print(f"\nWrote {', '.join([*written, LATENCY, LATENCY_PLOT])} to {output}/")
