"""What does a chat model say in six moods, and what goes wrong, how often?

    python benchmarks/gallery.py smollm2 [--vectors FILE] [--seed 0] [--output docs/gallery.md]

Answers the questions of gallery_questions.txt unsteered and in each mood at one strength, one batch
a question, as they come. Then it answers them in all emotions of the vectors under other seeds, and
counts the texts that loop, leave the topic, do not show the mood, show nothing else, are cut off or
were drawn again. Writes a page and a picture beside it, and JSON lines to benchmarks/results.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from gallery_failures import UNSTEERED, Failures, Text, places_of
from gallery_page import About, page
from gallery_plot import plot_rates
from tqdm import tqdm

from emokernel.atomic import write_text
from emokernel.bench import append, machine
from emokernel.demo.models import load
from emokernel.demo.named import MAKE_VECTORS, named
from emokernel.demo.wordlist import is_presentable
from emokernel.lab.extract.prompts import question as prompt_of
from emokernel.lab.judges import load_classifier
from emokernel.lab.measure.classifiers import TextClassifier
from emokernel.lab.measure.fingerprint import check_made_from
from emokernel.lab.measure.fluency import repetition
from emokernel.lab.measure.generation import Job, write
from emokernel.lab.measure.sampling import Sampling
from emokernel.lab.measure.sentences import ENCODER, SentenceEncoder
from emokernel.lab.report.figures import counted
from emokernel.requests import Request
from emokernel.steering import Steering, patch
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import Calibration, key_of
from emokernel.weights import identity

HERE = Path(__file__).parent
RESULTS = HERE / "results"
QUESTIONS = HERE / "gallery_questions.txt"
# Around the circle, beginning at the right.
MOODS = ("joy", "surprise", "anger", "fear", "sadness", "calm")
# The folder of an absolute path, not the owner of a repository.
_ABSOLUTE = re.compile(r"(?:(?<==)|^)/(?:[^/]*/)*")
# (mood, question, seed)
Ask = tuple[str, str, int]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write, count, draw and record."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    chosen = parser.parse_args(given)
    began = time.perf_counter()
    vectors = EmotionVectors.load(chosen.vectors) if chosen.vectors else None
    vectors = vectors or named(chosen.model).load_vectors()
    if vectors is None:
        parser.error(f"give --vectors: {MAKE_VECTORS.format(chosen.model)}")
    calibration = vectors.calibration
    if calibration is None:
        parser.error("the vectors have no calibration, so 1.0 means nothing: emokernel calibrate")
    dosed, left_out = with_dose(vectors.names, calibration)
    emotions = chosen.emotions or dosed
    if lacking := (set(emotions) | set(chosen.moods)) - set(dosed):
        parser.error(f"no dose of {', '.join(sorted(lacking))}: choose of {', '.join(dosed)}")
    asked = QUESTIONS.read_text("utf-8").splitlines()
    seeds = [chosen.seed + 1 + number for number in range(chosen.counted)]
    model, tokenizer = load(chosen.model, dtype=chosen.dtype)
    check_made_from(vectors, model)
    judge = load_classifier(named(chosen.model).judge)
    encoder = SentenceEncoder.fetched(ENCODER)
    places = places_of(calibration, judge.labels, emotions)
    emotions = sorted(emotions, key=lambda name: places[name].angle)
    sampling = Sampling(chosen.tokens)
    writer = Writer(
        model, tokenizer, patch(model, vectors), sampling, judge, encoder, chosen.strength
    )
    side_by_side = (UNSTEERED, *chosen.moods)
    shown = {
        question: writer.write([(mood, question, chosen.seed) for mood in side_by_side])
        for question in tqdm(asked, desc="answers", unit=" questions")
    }
    texts = writer.counted([UNSTEERED, *emotions], asked, seeds)
    failures = Failures([text for of_mood in texts.values() for text in of_mood], places)
    picture = chosen.output.with_suffix(".png")
    plot_rates(picture, texts, failures)
    about = About(
        command=shlex.join(["python", "benchmarks/gallery.py", *_without_paths(given)]),
        model=identity(chosen.model), law=calibration.law, strength=chosen.strength,
        judge=judge.name,
        vectors="those that ship" if chosen.vectors is None else chosen.vectors.name,
        encoder=encoder.name, dtype=chosen.dtype, sampling=sampling, seed=chosen.seed, seeds=seeds,
        other_question=beside_others(texts[UNSTEERED], asked, encoder, failures.floor),
        left_out=left_out, seconds=time.perf_counter() - began, machine=_machine(),
        picture=picture.name,
    )  # fmt: skip
    write_text(chosen.output, page(shown, texts, failures, about))
    recorded = append(chosen.results, "gallery", rows(texts, failures, about, vectors))
    print(f"Wrote {chosen.output}, {picture} and {recorded}")


def with_dose(names: Sequence[str], calibration: Calibration) -> tuple[list[str], list[str]]:
    """The emotions for which the calibration found a dose, and those for which it found none."""
    strengths = calibration.strengths[key_of(calibration.law, calibration.dose)]
    dosed = [name for name in names if strengths.get(name)]
    return dosed, [name for name in names if name not in dosed]


@dataclass(frozen=True)
class Writer:
    """Writes answers and reads them; ``steering`` is that of the model."""

    model: Any
    tokenizer: Any
    steering: Steering
    sampling: Sampling
    judge: TextClassifier
    encoder: Callable[[Sequence[str]], np.ndarray]
    strength: float

    def write(self, asks: Sequence[Ask], title: str = "") -> list[Text]:
        """The answers in their order, many in a batch; a ``title`` shows a bar."""
        jobs = [
            Job(
                "",
                None if mood == UNSTEERED else Request(mood, self.strength),
                prompt_of(q, self.tokenizer),
                q,
            )
            for mood, q, _ in asks
        ]
        batches = write(
            self.model, self.tokenizer, self.steering, jobs, [seed for *_, seed in asks],
            sampling=self.sampling, special_tokens=False, accept=is_presentable,
        )  # fmt: skip
        with tqdm(total=len(jobs), desc=title, unit=" texts", disable=not title) as bar:
            written = []
            for batch in batches:
                written += batch
                bar.update(len(batch))
        answers = [one.text for one in written]
        tops = self.judge.probabilities(answers).argmax(1).tolist()
        near = (self.encoder(answers) * self.encoder([q for _, q, _ in asks])).sum(1)
        return [
            Text(
                mood, q, seed, one.text, one.cut, one.redrawn, repetition([one.text]),
                float(similar), self.judge.labels[top] if one.text.strip() else None,
            )
            for (mood, q, seed), one, top, similar in zip(asks, written, tops, near, strict=True)
        ]  # fmt: skip

    def counted(
        self, moods: Sequence[str], questions: Sequence[str], seeds: Sequence[int]
    ) -> dict[str, list[Text]]:
        """Of each mood its answers to all questions under all seeds."""
        asks = [(mood, q, seed) for q in questions for mood in moods for seed in seeds]
        texts = self.write(asks, "counted")
        return {mood: [text for text in texts if text.mood == mood] for mood in moods}


def beside_others(
    plain: Sequence[Text],
    questions: Sequence[str],
    encoder: Callable[[Sequence[str]], np.ndarray],
    floor: float,
) -> float:
    """The share of unsteered answers below ``floor`` beside each question that is not theirs."""
    near = encoder([text.answer for text in plain]) @ encoder(questions).T
    own = np.array([[text.question == q for q in questions] for text in plain])
    return float((near[~own] < floor).mean())


def rows(
    texts: Mapping[str, Sequence[Text]], failures: Failures, about: About, vectors: EmotionVectors
) -> list[dict[str, Any]]:
    """What is recorded: a row for each mood."""
    run = {
        "model": about.model, "vectors": vectors.digest(), "law": about.law, "dtype": about.dtype,
        "strength": about.strength,
        "sampling": asdict(about.sampling), "judge": about.judge, "seeds": list(about.seeds),
        "seconds": about.seconds, "topic_floor": failures.floor,
        "off_topic_beside_another_question": about.other_question,
    }  # fmt: skip
    return [
        run
        | {
            "mood": mood, "texts": len(of_mood), "counts": failures.counts(of_mood),
            "repeated": fmean(text.repeated for text in of_mood),
            "topic": fmean(text.topic for text in of_mood),
            "redrawn_samples": sum(text.redrawn for text in of_mood),
        }
        for mood, of_mood in texts.items()
    ]  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="smollm2, or another chat model")
    parser.add_argument("--vectors", type=Path, help="calibrated (smollm2: those that ship)")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--seed", type=int, default=0, help="of the answers that are shown (0)")
    parser.add_argument("--counted", type=int, default=6, help="seeds that are counted (6)")
    parser.add_argument("--strength", type=float, default=1.5, help="of the moods (1.5)")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer at most (64)")
    parser.add_argument("--moods", nargs="+", default=MOODS, help=f"({' '.join(MOODS)})")
    parser.add_argument("--emotions", nargs="+", help="that are counted (all of the vectors)")
    parser.add_argument("--output", type=Path, default=HERE.parent / "docs" / "gallery.md")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


def _without_paths(given: Sequence[str]) -> list[str]:
    """The arguments as others would give them: of absolute paths the name alone."""
    return [_ABSOLUTE.sub("", word) for word in given]


def _machine() -> str:
    on = machine()
    return on["gpu"] or f"{on['cores']} cores of {on['cpu']}, {counted(on['threads'], 'thread')}"


if __name__ == "__main__":
    main()
