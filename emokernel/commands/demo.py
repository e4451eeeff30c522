"""`emokernel demo`: a small model speaks with emotion, a judge listens."""

from __future__ import annotations

import argparse
from pathlib import Path

from emokernel.commands import evaluate
from emokernel.commands.arguments import EMBEDDED, positive
from emokernel.commands.show import table
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.lab.evaluate.goals import verdicts
from emokernel.lab.evaluate.results import PROMPT, Results
from emokernel.lab.report.tables import conditions, emotions, states
from emokernel.lab.report.view import View
from emokernel.steering import patch

_COLUMNS, _LONGEST = 6, 34  # of a table of the report, as much as a terminal shows of it


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, default=Path("emokernel-demo"), help="folder (emokernel-demo)"
    )
    parser.add_argument("--seeds", type=positive, default=3, help="samples of each opening (3)")


def run(chosen: argparse.Namespace) -> None:
    """Run the demo."""
    demo(chosen.output, chosen.seeds)


def demo(output: Path, seeds: int = 3, openings: int = 60) -> None:
    """Evaluate the embedded model at full strength alone; the report goes into ``output``.

    The first ``openings`` of the sixty.
    """
    short = argparse.ArgumentParser()
    evaluate.add(short)
    options = (
        f"{EMBEDDED} --openings {openings} --seeds {seeds} --intensities 1 --strengths 1 --doses"
        " --restart --output"
    )
    chosen = short.parse_args([*options.split(), str(output)])
    results, written = evaluate.evaluated(chosen, one_law=True)
    model, _ = load_model()
    steering = patch(model, load_vectors())
    print(steering.report(), end="\n\n")
    steering.unpatch()
    view = View(results)
    print(_samples(results))
    for each in (emotions(view), states(view), conditions(view, view.judge)):
        corner, *heads = each.columns[:_COLUMNS]
        rows = {name: cells for name, *cells in (row[:_COLUMNS] for row in each.rows)}
        print(*table(each.caption, corner, heads, rows, _LONGEST), sep="\n")
    print(f"\n{verdicts(results.goals)}")
    print(f"\nWrote {', '.join(written)} to {output}/")


def _samples(results: Results) -> str:
    lines = ["The same opening unsteered and under every emotion by vector:"]
    for sample in results.samples:
        lines.append("")
        for condition, text in sample.texts.items():
            emotion, _, mode = condition.partition(", by ")
            if mode != PROMPT:
                lines.append(f"  {emotion:<15}{text}")
    return "\n".join(lines)
