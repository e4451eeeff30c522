"""Measure the judges that ship beside each other on GoEmotions test.

    python -m embedded.compare_judges --data DIR [--base FOLDER] [--out benchmarks/results]

Writes judges.json (figures, F1 by label, differences with intervals), judges.md (the tables) and
judges.png. Thresholds are chosen on dev: one for all labels, and one for each label.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embedded.corpus import heldout_examples
from embedded.judge import best_threshold, figures, texts_and_targets
from emokernel.atomic import write_text
from emokernel.extras import need
from emokernel.lab.judges import EMBEDDED, TRANSFORMER, load_classifier
from emokernel.lab.judges.goemotions_minilm import load_judge
from emokernel.lab.measure.classifiers import TextClassifier

THRESHOLDS = torch.arange(2, 90) / 100
DRAWS = 2000


class Measured:
    """A judge on dev and test: what it predicts under either kind of threshold."""

    def __init__(self, judge: TextClassifier, data: Path) -> None:
        read = {}
        for part in ("dev", "test"):
            texts, targets = texts_and_targets(heldout_examples(data, part), judge.labels)
            read[part] = judge.probabilities(texts), targets
        probabilities, self.targets = read["test"]
        self.truth = self.targets > 0
        one, each = best_threshold(*read["dev"]), label_thresholds(*read["dev"])
        self.predicted = {
            "macro_f1": probabilities >= one,
            "macro_f1_own_thresholds": probabilities >= each,
        }
        top = probabilities.argmax(1, keepdim=True)
        self.right = self.truth.gather(1, top)[:, 0]
        self.single = self.truth.sum(1) == 1
        own = f1(*counts(self.predicted["macro_f1_own_thresholds"], self.truth))
        self.figures = figures(probabilities, self.targets, one) | {
            "macro_f1_own_thresholds": round(float(own.mean()), 4),
            "threshold": one,
            "thresholds": {
                n: round(v, 2) for n, v in zip(judge.labels, each.tolist(), strict=True)
            },
            "f1": dict(zip(judge.labels, self.f1(), strict=True)),
        }

    def f1(self) -> list[float]:
        """Of each label, with the one threshold."""
        found = f1(*counts(self.predicted["macro_f1"], self.truth)).tolist()
        return [round(value, 4) for value in found]

    def resampled(self, weights: Tensor) -> dict[str, Tensor]:
        """Each figure [draws] on rows drawn as often as ``weights`` [draws, n] say."""
        found = {
            name: f1(*(weights @ of for of in counts(predicted, self.truth, sums=False))).mean(1)
            for name, predicted in self.predicted.items()
        }
        single = weights * self.single
        found["accuracy_any_label"] = weights @ self.right.float() / weights.sum(1)
        found["accuracy_single_label"] = single @ self.right.float() / single.sum(1)
        return found


def counts(predicted: Tensor, truth: Tensor, *, sums: bool = True) -> tuple[Tensor, Tensor]:
    """(hits, predicted and true ones together) of each label, or of each row and label."""
    hits, both = (predicted & truth).float(), predicted.float() + truth.float()
    return (hits.sum(0), both.sum(0)) if sums else (hits, both)


def f1(hits: Tensor, both: Tensor) -> Tensor:
    """F1 of `counts`; 0 for a label that neither predicted nor true rows have."""
    return 2 * hits / both.clamp_min(1)


def label_thresholds(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The threshold with the best F1 for each label, [labels]."""
    found = [f1(*counts(probabilities >= value, targets > 0)) for value in THRESHOLDS]
    return THRESHOLDS[torch.stack(found).argmax(0)]


def differences(one: Measured, other: Measured) -> dict[str, dict[str, float]]:
    """Each figure of ``one`` less that of ``other``: 95 % by bootstrap over rows, paired."""
    rows = len(one.truth)
    drawn = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), DRAWS)
    weights = torch.from_numpy(np.vstack([np.ones(rows, drawn.dtype), drawn])).float()
    of_one, of_other = one.resampled(weights), other.resampled(weights)
    found = {}
    for name, values in of_one.items():
        gap = (values - of_other[name]).double()
        low, high = np.percentile(gap[1:].numpy(), [2.5, 97.5])
        of = zip(("difference", "low", "high"), (gap[0].item(), low, high), strict=True)
        found[name] = {key: round(float(value), 4) for key, value in of}
    return found


COLUMNS = {
    "accuracy_any_label": "accuracy, any label",
    "accuracy_single_label": "accuracy, single-label rows",
    "macro_f1": "macro-F1, one threshold",
    "macro_f1_own_thresholds": "macro-F1, own thresholds",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
}


def tables(measured: Mapping[str, Measured], gaps: Mapping[str, dict]) -> str:
    """Markdown: all figures, the differences, and F1 by label."""
    lines = ["| GoEmotions test | " + " | ".join(COLUMNS.values()) + " |", "|---" * 7 + "|"]
    for name, judge in measured.items():
        values = " | ".join(f"{judge.figures[key]:.3f}" for key in COLUMNS)
        lines.append(f"| {name} | {values} |")
    for other, found in gaps.items():
        cells = (
            f"{gap['difference']:+.3f} ({gap['low']:+.3f}..{gap['high']:+.3f})"
            for gap in (found.get(key) for key in COLUMNS)
            if gap
        )
        lines.append(f"| {TRANSFORMER} less {other} | {' | '.join(cells)} | | |")
    lines += [
        "",
        "| F1 on test | rows | " + " | ".join(measured) + " |",
        "|---" * (len(measured) + 2) + "|",
    ]
    rows = next(iter(measured.values())).truth.sum(0).tolist()
    for number, label in enumerate(next(iter(measured.values())).figures["f1"]):
        values = " | ".join(f"{judge.figures['f1'][label]:.2f}" for judge in measured.values())
        lines.append(f"| {label} | {rows[number]} | {values} |")
    return "\n".join(lines) + "\n"


def draw(found: Mapping[str, dict[str, float]], rows: Mapping[str, int], path: Path) -> None:
    """``found``: {judge: {label: F1}}, a dot each; ``rows`` of each label, the most on top."""
    plt = need("matplotlib.pyplot")
    labels = sorted(rows, key=rows.__getitem__)
    figure, axes = plt.subplots(figsize=(7, 7.5), layout="constrained")
    for order, ((name, values), look) in enumerate(
        zip(found.items(), ("C3o", "C0s", "C7D"), strict=True)
    ):
        mean = np.mean(list(values.values()))
        of = [values[label] for label in labels]
        told = f"{name} (mean {mean:.3f})"
        axes.plot(of, range(len(labels)), look, label=told, clip_on=False, zorder=5 - order)
    axes.set_yticks(range(len(labels)), [f"{label} ({rows[label]})" for label in labels])
    axes.set(ylim=(-0.7, len(labels) - 0.3), xlim=(0, 1))
    axes.set_xlabel("F1 on GoEmotions test, one threshold for all labels")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with goemotions/")
    parser.add_argument("--base", type=Path, help="folder of all-MiniLM-L6-v2 (fetched)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder (results)")
    asked = parser.parse_args()
    judges = [load_judge(asked.base, progress=True), *map(load_classifier, EMBEDDED)]
    measured = {judge.name: Measured(judge, asked.data) for judge in judges}
    first, *others = measured
    gaps = {name: differences(measured[first], measured[name]) for name in others}
    found = {"judges": {n: m.figures for n, m in measured.items()}, "less": gaps, "draws": DRAWS}
    write_text(asked.out / "judges.json", json.dumps(found, indent=1) + "\n")
    write_text(asked.out / "judges.md", tables(measured, gaps))
    rows = dict(zip(judges[0].labels, measured[first].truth.sum(0).tolist(), strict=True))
    draw({name: of.figures["f1"] for name, of in measured.items()}, rows, asked.out / "judges.png")
    print(tables(measured, gaps))


if __name__ == "__main__":
    main()
