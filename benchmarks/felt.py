"""Is a move in mid-text felt? What a judge reads behind it, read again or not.

    python benchmarks/felt.py [--quick]

SmolLM2-135M-Instruct answers under one mood, and in the middle another one is asked for, opposite
to it. What comes behind is read by the judge and laid on the direction that was asked for: 1 is
that mood, -1 its opposite. Four ways, with the same random numbers: nothing changes ("stays"), the
next tokens alone are steered otherwise ("kept"), the text so far is read again under the new mood
("again"), and an answer that had the new mood from its beginning ("from the start"), from the same
token on. Then what reading again costs. Writes JSON lines to benchmarks/results.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from emokernel import Affect, Request, Steering, patch
from emokernel.affect import Coordinates
from emokernel.bench import append, median
from emokernel.demo.models import load, load_vectors
from emokernel.lab.evaluate.prompting.prompts import shipped
from emokernel.lab.extract.chat import render
from emokernel.lab.judges import TRANSFORMER, load_classifier
from emokernel.lab.measure.classifiers import TextClassifier, affect_of, names_in
from emokernel.lab.measure.sampling import Sampling, Writing

RESULTS = Path(__file__).parent / "results"
WAYS = ("stays", "kept", "again", "from the start")
MOVES = tuple((Affect.at(turn), Affect.at((turn + 180) % 360)) for turn in (30, 210, 120, 300))
STRENGTHS = (1.0, 1.5)
TOKENS, MOVED_AT = 64, 28
JUDGE = TRANSFORMER
_DRAWS = 2000
_BEFORE = 80  # tokens that are written when reading again is timed


class Subject:
    """The model that answers, and its judge."""

    def __init__(self) -> None:
        self.model, self.tokenizer = load("smollm2")
        self.steering: Steering = patch(self.model, load_vectors("smollm2"))
        self.judge: TextClassifier = load_classifier(JUDGE)

    def context(self, question: str) -> list[int]:
        """The tokens that the model reads before it answers."""
        text = render([("user", question)], self.tokenizer)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def writing(self, contexts: Sequence[list[int]], requests: Any, tokens: int) -> Writing:
        """Answers, each with random numbers of its own."""
        seeds = [(row,) for row in range(len(contexts))]
        return Writing(
            self.model, self.tokenizer, contexts, Sampling(tokens), seeds=seeds,
            steering=self.steering, requests=requests, one_shape=True,
        )  # fmt: skip

    def answers(self, questions: Sequence[str], way: str, strength: float) -> list[str]:
        """What comes behind the move, for each question and each of `MOVES`."""
        contexts = [self.context(question) for question in questions for _ in MOVES]
        first, second = (
            [Request(move[number], strength) for _ in questions for move in MOVES]
            for number in (0, 1)
        )
        writing = self.writing(contexts, second if way == WAYS[3] else first, TOKENS)
        behind: list[list[int]] = [[] for _ in contexts]
        for step, tokens in enumerate(tqdm(writing, way, TOKENS, leave=False)):
            for row, token in tokens.items():
                if step >= MOVED_AT:
                    behind[row].append(token)
            if step + 1 == MOVED_AT and way in WAYS[1:3]:
                writing.change(second, way == WAYS[2])
        return self.tokenizer.batch_decode(behind, skip_special_tokens=True)

    def projections(self, texts: Sequence[str]) -> np.ndarray:
        """``[questions, moves]``; NaN where the answer had ended before the move."""
        table = Coordinates.named("russell")
        asked = [second for _ in range(len(texts) // len(MOVES)) for _, second in MOVES]
        points = affect_of(
            self.judge.probabilities([text or "." for text in texts]),
            names_in(table, self.judge.labels), table,
        )  # fmt: skip
        found = [
            valence * to.valence + arousal * to.arousal if text.strip() else np.nan
            for text, (valence, arousal), to in zip(texts, points.tolist(), asked, strict=True)
        ]
        return np.array(found).reshape(-1, len(MOVES))


def interval(values: np.ndarray) -> tuple[float, list[float]]:
    """(Mean, its 95 % interval): a bootstrap over questions, whose moves are drawn together."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(len(values), size=(_DRAWS, len(values)))
    means = np.nanmean(values[drawn], axis=(1, 2))
    return float(np.nanmean(values)), np.quantile(means, [0.025, 0.975]).tolist()


def cost(subject: Subject, question: str, rounds: int) -> dict[str, Any]:
    """Seconds of a step, and of one that reads again, of a steered and a plain answer together."""
    moods = [[Request(place), None] for place in MOVES[0]]
    subject.model.generation_config.eos_token_id = None
    tokenizer, subject.tokenizer.eos_token = subject.tokenizer.eos_token, None
    writing = subject.writing([subject.context(question)] * 2, moods[0], _BEFORE + 4 * rounds)
    for _ in range(_BEFORE):
        next(writing)
    times: dict[bool, list[float]] = {False: [], True: []}
    for step in range(2 * rounds):
        again = step % 2 == 1
        writing.change(moods[step // 2 % 2], again)
        began = time.perf_counter()
        next(writing)
        times[again].append(time.perf_counter() - began)
    subject.tokenizer.eos_token = tokenizer
    return {
        "rounds": rounds, "tokens": len(subject.context(question)) + _BEFORE,
        "ms_step": 1e3 * median(times[False]), "ms_again": 1e3 * median(times[True]),
    }  # fmt: skip


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few questions")
    quick = parser.parse_args().quick
    questions = shipped("questions")["queries"][: 2 if quick else 16]
    subject = Subject()
    rows: list[dict[str, Any]] = []
    for strength in STRENGTHS:
        for way in WAYS:
            values = subject.projections(subject.answers(questions, way, strength))
            mean, bounds = interval(values)
            rows.append({
                "model": "smollm2", "judge": JUDGE, "strength": strength, "way": way,
                "questions": len(questions), "moves": len(MOVES),
                "texts": int(np.isfinite(values).sum()),
                "tokens": TOKENS, "moved_at": MOVED_AT, "projection": mean, "projection_95": bounds,
            })  # fmt: skip
            print(f"{strength} {way:<15} {mean:6.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})")
    timed = cost(subject, questions[0], 3 if quick else 20)
    print(f"a step {timed['ms_step']:.0f} ms, read again {timed['ms_again']:.0f} ms")
    append(RESULTS, "felt", [*rows, {"model": "smollm2", "way": "cost", **timed}])


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
