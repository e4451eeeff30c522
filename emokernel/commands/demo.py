"""`emokernel demo`: a small model speaks with emotion, a judge listens."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from emokernel.atomic import write_text
from emokernel.bench import machine, summary
from emokernel.bench.benchmark import BenchOptions, bench
from emokernel.bench.cases import Case, with_baselines
from emokernel.commands import evaluate
from emokernel.commands.arguments import positive
from emokernel.commands.show import table
from emokernel.demo.model import load_model
from emokernel.demo.named import EMBEDDED
from emokernel.demo.vectors import load_vectors
from emokernel.lab.evaluate.goals import verdicts
from emokernel.lab.evaluate.results import PROMPT, Results
from emokernel.lab.report.tables import conditions, costs, emotions, states
from emokernel.lab.report.view import View
from emokernel.steering import patch

LATENCY, LATENCY_PLOT = "latency.json", "latency.png"
_COLUMNS, _LONGEST = 6, 34  # of a table of the report, as much as a terminal shows of it


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
    summary.latency(output / LATENCY_PLOT, timed.rows, title)
    view = View(results)
    print(_samples(results))
    for each in (emotions(view), costs(view), states(view), conditions(view, view.judge)):
        corner, *heads = each.columns[:_COLUMNS]
        rows = {name: cells for name, *cells in (row[:_COLUMNS] for row in each.rows)}
        print(*table(each.caption, corner, heads, rows, _LONGEST), sep="\n")
    print(f"\n{title}, in ms:\n{summary.table(timed.case, timed.rows)}")
    print(f"\n{verdicts(results.goals)}")
    print(f"\nWrote {', '.join([*written, LATENCY, LATENCY_PLOT])} to {output}/")


def _samples(results: Results) -> str:
    lines = ["The same opening unsteered and under every emotion by vector:"]
    for sample in results.samples:
        lines.append("")
        for condition, text in sample.texts.items():
            emotion, _, mode = condition.partition(", by ")
            if mode != PROMPT:
                lines.append(f"  {emotion:<15}{text}")
    return "\n".join(lines)
