"""The model's own answers under its vectors: those in which the emotion is heard are kept."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel import EmotionVectors, Request, patch
from emokernel.atomic import write_text
from emokernel.demo.wordlist import is_presentable
from emokernel.extras import need
from emokernel.lab.extract.prompts import question
from emokernel.lab.judges import load_classifier
from emokernel.lab.measure.classifiers import emotion_probabilities
from emokernel.lab.measure.fluency import repetition, surprises
from emokernel.lab.measure.generation import Job, write
from emokernel.lab.measure.sampling import Sampling
from smollm2 import texts

JUDGE, SAMPLING = "embedded-calibration", Sampling(48)
# What is kept: so many words of a text may be repeated, so short may it be, and so often may the
# same query and the same first three words come.
_REPEATED, _SHORTEST, _OF_QUERY, _OF_OPENING = 0.08, 14, 2, 6
# The share of an emotion's answers in which it is heard least, whatever they cost.
_DROPPED = 0.55


@dataclass
class Answer:
    """One of the model's answers; ``nats``: under the unsteered model, per token."""

    emotion: str
    query: str
    text: str
    nats: float
    tokens: int
    heard: float = 0.0


def pool(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    vectors: EmotionVectors,
    rounds: Sequence[tuple[int, float]],
) -> list[Answer]:
    """Answers to all queries under every emotion, for each (seed, strength) of ``rounds``."""
    asked = [*texts.queries(), *texts.more_queries()]
    answers: list[Answer] = []
    for seed, strength in rounds:
        steering = patch(model, vectors, calibrated=False)
        jobs = [
            Job("", Request(name, strength), question(query, tokenizer), query)
            for query in asked
            for name in vectors.names
        ]
        batches = write(
            model, tokenizer, steering, jobs, seed, sampling=SAMPLING, special_tokens=False
        )
        done = [each for batch in batches for each in batch]
        steering.unpatch()
        pairs = [each.read for each in done]
        nats, tokens = surprises(model, tokenizer, pairs, special_tokens=False)
        answers += [
            Answer(each.job.request.emotion, each.job.query, each.text.strip(), n / max(t, 1), t)
            for each, n, t in zip(done, nats.tolist(), tokens.int().tolist(), strict=True)
        ]
    return answers


def save(path: Path, answers: Sequence[Answer]) -> None:
    """JSON lines."""
    write_text(path, "".join(json.dumps(asdict(each)) + "\n" for each in answers))


def load(path: Path) -> list[Answer]:
    """What `save` wrote."""
    return [Answer(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def listen(answers: Sequence[Answer]) -> None:
    """Fill in ``heard``: the mean of the calibrating judge and of a classifier that was fitted to
    the written answers, which knows the emotions that the judge has no label for.
    """
    text = need("sklearn.feature_extraction.text")
    fitted = need("sklearn.pipeline").make_pipeline(
        text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        need("sklearn.linear_model").LogisticRegression(C=30, max_iter=2000),
    )
    labelled = [
        (name, answer)
        for name in (*texts.emotions(), texts.NEUTRAL)
        for answer in texts.written(name).values()
    ]
    fitted.fit([answer for _, answer in labelled], [name for name, _ in labelled])
    read = [answer.text for answer in answers]
    by_written = fitted.predict_proba(read)
    judge = load_classifier(JUDGE)
    by_judge = judge.probabilities(read)
    # The judge hardly hears anger in such texts, annoyance more often.
    labels = texts.LABELS | {"anger": ("anger", "annoyance")}
    shown = {
        name: emotion_probabilities(judge, by_judge, name, labels) for name in texts.emotions()
    }
    columns = {name: column for column, name in enumerate(fitted.classes_)}
    for row, answer in enumerate(answers):
        both = shown[answer.emotion][row].item(), by_written[row, columns[answer.emotion]]
        answer.heard = float(np.mean(both))


def best(
    answers: Sequence[Answer], count: int, free: float, cost: float
) -> dict[str, list[tuple[str, str]]]:
    """{emotion: the (query, answer) pairs that are worth most, ``count`` at most}.

    Worth is the logarithm of what is heard, less ``cost`` for each nat per token above ``free``.
    """

    def worth(answer: Answer) -> float:
        return math.log(answer.heard + 0.02) - cost * max(0.0, answer.nats - free)

    kept: dict[str, list[tuple[str, str]]] = {}
    for name in texts.emotions():
        own = [answer for answer in answers if answer.emotion == name and _fit(answer)]
        least = np.quantile([answer.heard for answer in own], _DROPPED)
        heard = sorted((each for each in own if each.heard >= least), key=worth, reverse=True)
        queries, openings = Counter(), Counter()
        for answer in heard:
            opening = " ".join(answer.text.lower().split()[:3])
            if queries[answer.query] < _OF_QUERY and openings[opening] < _OF_OPENING:
                queries[answer.query] += 1
                openings[opening] += 1
                kept.setdefault(name, []).append((answer.query, answer.text))
        del kept[name][count:]
    return kept


def _fit(answer: Answer) -> bool:
    return (
        answer.tokens >= _SHORTEST
        and repetition([answer.text]) < _REPEATED
        and is_presentable(answer.text)
    )
