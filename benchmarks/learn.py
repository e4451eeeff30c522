"""Do learned vectors show an emotion more than extracted ones, at equal dose?

    python benchmarks/learn.py [--emotions anger fear] [--steps 15]

The vectors of the embedded model are learned further by policy gradient on the judge of
calibration, behind the openings of calibration. The other judge then reads what both sets write
behind the openings of the demo, at equal divergence from the unsteered model. Writes JSON lines to
benchmarks/results.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from emokernel.bench import append, now
from emokernel.demo.model import load_model, openings
from emokernel.demo.vectors import load_vectors
from emokernel.lab.calibrate import Prompts
from emokernel.lab.judges import load_classifier
from emokernel.lab.learn import PolicyGradient, compare, learn_vectors, requests_at_dose
from emokernel.steering import patch

RESULTS = Path(__file__).parent / "results"
DOSE = 0.4


def main() -> None:
    """Learn, compare and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emotions", nargs="+", help="which (all)")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--texts", type=int, default=20, help="of each emotion in a step (20)")
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--penalty", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=2, help="texts behind each opening (2)")
    arguments = parser.parse_args()
    model, tokenizer = load_model()
    extracted = load_vectors()
    emotions = arguments.emotions or extracted.names
    training = [opening for _, opening in Prompts.of(tokenizer, count=120).pairs]
    began, date = time.perf_counter(), now()
    steering = patch(model, extracted, law="add", calibrated=False)
    requests = requests_at_dose(model, tokenizer, steering, emotions, training, DOSE)
    objective = PolicyGradient(
        model, tokenizer, steering, requests, judge=load_classifier("embedded-calibration"),
        openings=training, texts=arguments.texts, penalty=arguments.penalty,
    )  # fmt: skip
    learned = learn_vectors(
        steering, emotions, objective, steps=arguments.steps, rate=arguments.rate
    )
    steering.unpatch()
    seconds = time.perf_counter() - began
    print(f"{len(emotions)} emotions learned in {seconds:.0f} s")
    judge = load_classifier("embedded-evaluation")
    for emotion in emotions:
        comparison = compare(
            model, tokenizer, {"extracted": extracted, "learned": learned}, emotion,
            judge=judge, openings=openings(), dose=DOSE, seeds=arguments.seeds,
        )  # fmt: skip
        print(comparison)
        row = {
            "emotion": emotion,
            "dose": DOSE,
            "texts": len(openings()) * arguments.seeds,
            "gain": comparison.gain[0],
            "gain_95": comparison.gain[1:],
            "learned_together": len(emotions),
            "seconds_to_learn": seconds,
            "settings": vars(arguments) | {"emotions": list(emotions)},
        }
        for name, measured in comparison.measured.items():
            row[name] = {
                "probability": measured.probability,
                "divergence": measured.divergence,
                "perplexity": measured.perplexity,
                "distinct_3": measured.distinct,
                "strength": measured.strength,
            }
        append(RESULTS, "learn", [row], date)


if __name__ == "__main__":
    main()
