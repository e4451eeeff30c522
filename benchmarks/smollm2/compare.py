"""Which way to make vectors brings the most emotion for what it costs?

    python -m smollm2.compare lines=FILE extracted=FILE ... [--plot steps.png]

In `benchmarks/`. Every set of vectors writes behind the queries of calibration at several strengths
of the raw vectors (of what strength 1.0 means, where they are calibrated); the judge that evaluates
reads. Writes JSON lines to benchmarks/results, and draws emotion against perplexity.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel import EmotionVectors, Request, patch
from emokernel.atomic import save_figure
from emokernel.bench import append
from emokernel.demo.models import load
from emokernel.extras import need
from emokernel.lab.extract.prompts import question
from emokernel.lab.judges import TRANSFORMER, load_classifier
from emokernel.lab.measure.classifiers import TextClassifier, emotion_probabilities
from emokernel.lab.measure.fluency import distinct_n, exponential, surprises
from emokernel.lab.measure.generation import Job, write
from emokernel.lab.measure.sampling import Sampling
from smollm2 import texts

RESULTS = Path(__file__).parents[1] / "results"
SAMPLING = Sampling(48)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="NAME=FILE", help="vectors, and what they are")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.4, 0.7, 1.0])
    parser.add_argument("--queries", type=int, default=8, help="how many (8)")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--plot", type=Path, help="picture to draw")
    chosen = parser.parse_args()
    model, tokenizer = load("smollm2", dtype=chosen.dtype)
    judge = load_classifier(TRANSFORMER)
    asked = texts.calibration_queries()[: chosen.queries]
    rows = []
    for number, given in enumerate(chosen.files):
        name, _, path = given.partition("=")
        vectors = EmotionVectors.load(path)
        # The unsteered answers are the same under all.
        for strength in (*([] if number else [0.0]), *chosen.strengths):
            row = measured(model, tokenizer, vectors, judge, asked, strength)
            rows.append({"vectors": name, "strength": strength, **row})
            print(rows[-1], flush=True)
    plain = rows[0]["perplexity"]
    for row in rows:
        row["perplexity_ratio"] = row["perplexity"] / plain
        row |= {"queries": chosen.queries, "dtype": chosen.dtype}
    append(RESULTS, "smollm2-steps", rows)
    if chosen.plot:
        draw(chosen.plot, rows[1:])


def measured(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    vectors: EmotionVectors,
    judge: TextClassifier,
    asked: Sequence[str],
    strength: float,
) -> dict[str, Any]:
    """Means over the emotions that the judge knows; perplexity is that of all their answers."""
    names = [name for name in vectors.names if name in judge.labels]
    steering = patch(model, vectors)
    jobs = [
        Job("", Request(name, strength) if strength else None, question(query, tokenizer), query)
        for query in asked
        for name in (names if strength else names[:1])
    ]
    batches = write(model, tokenizer, steering, jobs, 0, sampling=SAMPLING, special_tokens=False)
    done = [each for batch in batches for each in batch]
    steering.unpatch()
    read = judge.probabilities([each.text for each in done])
    heard = []
    for name in names:
        shown = emotion_probabilities(judge, read, name).tolist()
        own = [not strength or each.job.request.emotion == name for each in done]
        heard.append(fmean(p for p, mine in zip(shown, own, strict=True) if mine))
    nats, tokens = surprises(model, tokenizer, [each.read for each in done], special_tokens=False)
    return {
        "intended": fmean(heard),
        "emotions": len(names),
        "perplexity": exponential(float(nats.sum() / tokens.sum())),
        "distinct_3": distinct_n([each.text for each in done]),
    }


def draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Intended emotion against perplexity, a line for each way."""
    figure = need("matplotlib.figure").Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["vectors"] for row in rows):
        own = [row for row in rows if row["vectors"] == name]
        xs, ys = ([row[key] for row in own] for key in ("perplexity_ratio", "intended"))
        axes.plot(xs, ys, "o-", label=name)
    axes.axvline(1.5, color="#9ca3af", linewidth=0.8)
    axes.set(
        xscale="log", xlabel="perplexity, times unsteered", ylabel="probability of the emotion",
        xticks=(1, 1.5, 2, 3, 5, 8), xticklabels=("1", "1.5", "2", "3", "5", "8"), ylim=(0, None),
    )  # fmt: skip
    axes.minorticks_off()
    axes.legend(frameon=False)
    save_figure(figure, path, dpi=160)


if __name__ == "__main__":
    main()
