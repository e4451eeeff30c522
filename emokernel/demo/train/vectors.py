"""Extract the emotion vectors of the embedded model and choose the demo's strengths.

    python -m emokernel.demo.train.vectors --data DIR

The lines of each emotion are read twice, behind the prefix token of the emotion and behind the
neutral one; the vector is the difference of the two means, prefixes not averaged over. Half of what
all emotions have in common is taken out, which tells them apart better than none of it. The
strength of each is chosen on openings cut from held-out comments, not on those of the demo.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emokernel import EmotionVectors, patch
from emokernel.demo.clean import clean
from emokernel.demo.conditions import CONDITIONS, prefix
from emokernel.demo.experiment import STEERED, UNSTEERED, run
from emokernel.demo.model import load_model
from emokernel.demo.train.corpus import heldout_examples, language_examples
from emokernel.demo.vectors import VECTORS_PATH

# The least fluency that a strength must leave, a little stricter than the demo's goal.
_MIN_DISTINCT, _MAX_PERPLEXITY = 0.9, 2.3
_COMMON_SHARE = 0.5


def extract_vectors(model: Any, tokenizer: Any, data: Path, site: str) -> EmotionVectors:
    """Vectors of every condition but neutral, from the language half of the text."""
    lines: dict[str, list[str]] = {emotion: [] for emotion in CONDITIONS if emotion != "neutral"}
    for example in language_examples(data):
        if len(example.emotions) == 1 and example.emotions[0] in lines:
            lines[example.emotions[0]].append(example.text)

    def behind(condition: str, texts: Sequence[str]) -> list[tuple[str, str]]:
        return [(prefix(condition), text) for text in texts]

    raw = EmotionVectors.extract(
        model,
        tokenizer,
        {emotion: behind(emotion, texts) for emotion, texts in lines.items()},
        {emotion: behind("neutral", texts) for emotion, texts in lines.items()},
        site=site,
        batch_size=64,
        data="single-emotion lines of GoEmotions (CC BY 4.0; the half not used by the judge) and"
        " XED (CC BY 4.0), cleaned, behind the prefix of their emotion and behind the neutral one",
    )
    common = raw.tensor.mean(dim=1, keepdim=True)
    method = f"{raw.provenance['method']}, less {_COMMON_SHARE} of the mean over emotions"
    provenance = {**raw.provenance, "method": method}
    return EmotionVectors(raw.names, raw.tensor - _COMMON_SHARE * common, site, provenance)


def tuning_openings(data: Path, count: int = 40) -> list[str]:
    """The first three words of neutral held-out comments, chosen with a fixed seed."""
    texts = [clean(e.text) for e in heldout_examples(data) if e.emotions == ("neutral",)]
    cut = sorted({" ".join(text.split()[:3]) for text in texts if text and len(text.split()) > 6})
    return random.Random(0).sample(cut, count)


def choose_strengths(
    model: Any, tokenizer: Any, vectors: EmotionVectors, openings: Sequence[str],
    strengths: Sequence[float],
) -> dict[str, float]:  # fmt: skip
    """For each emotion, the strength with the highest probability among those that stay fluent."""
    best = {emotion: (-1.0, min(strengths)) for emotion in vectors.names}
    steering = patch(model, vectors)
    for strength in strengths:
        results = run(
            model, tokenizer, steering, dict.fromkeys(vectors.names, strength), openings, seeds=[17]
        )
        plain = results.fluency[UNSTEERED]
        for emotion, fluency in results.fluency_by_emotion.items():
            distinct = fluency["distinct_3"] / plain["distinct_3"]
            perplexity = fluency["perplexity"] / plain["perplexity"]
            probability = results.emotions[emotion][STEERED]
            print(
                f"{strength:4g} {emotion:<15} probability {probability:.3f} distinct-3"
                f" {distinct:.2f}x perplexity {perplexity:.2f}x"
            )
            if distinct >= _MIN_DISTINCT and perplexity <= _MAX_PERPLEXITY:
                best[emotion] = max(best[emotion], (probability, strength))
    steering.unpatch()
    return {emotion: strength for emotion, (_, strength) in best.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with goemotions/, xed/")
    parser.add_argument("--out", type=Path, default=VECTORS_PATH)
    parser.add_argument("--site", default="attention", choices=("attention", "block"))
    parser.add_argument(
        "--strengths", type=float, nargs="+", default=[1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0]
    )
    arguments = parser.parse_args()
    model, tokenizer = load_model()
    vectors = extract_vectors(model, tokenizer, arguments.data, arguments.site)
    openings = tuning_openings(arguments.data)
    chosen = choose_strengths(model, tokenizer, vectors, openings, arguments.strengths)
    provenance = {
        **vectors.provenance,
        "model": "the embedded model of emokernel.demo",
        "recommended_strengths": chosen,
    }
    EmotionVectors(vectors.names, vectors.tensor, vectors.site, provenance).save(arguments.out)
    print(f"wrote {arguments.out}: {len(vectors.names)} emotions, strengths {chosen}")


if __name__ == "__main__":
    main()
