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
from emokernel.errors import EmokernelError
from emokernel.lab.extract.prompts import question
from emokernel.lab.measure.fluency import repetition, surprises
from emokernel.lab.measure.generation import Job, write
from emokernel.lab.measure.sampling import Sampling
from smollm2 import texts
from smollm2.listener import Listener

SAMPLING = Sampling(48)
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
    emotions: Sequence[str],
    rounds: Sequence[tuple[int, float]],
) -> list[Answer]:
    """Answers to all queries under ``emotions``, for each (seed, strength) of ``rounds``."""
    asked = [*texts.queries(), *texts.more_queries()]
    answers: list[Answer] = []
    for seed, strength in rounds:
        steering = patch(model, vectors, calibrated=False)
        jobs = [
            Job("", Request(name, strength), question(query, tokenizer), query)
            for query in asked
            for name in emotions
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
    """Fill in ``heard``."""
    listener = Listener()
    read = listener.probabilities([answer.text for answer in answers])
    for answer, row in zip(answers, read, strict=True):
        answer.heard = row[listener.labels.index(answer.emotion)].item()


def best(
    answers: Sequence[Answer], count: int, free: float, cost: float
) -> dict[str, list[tuple[str, str]]]:
    """{emotion: the (query, answer) pairs that are worth most, ``count`` at most}.

    Worth is the logarithm of what is heard, less ``cost`` for each nat per token above ``free``.
    EmokernelError for an emotion whose answers are all too short, repeated or not presentable.
    """

    def worth(answer: Answer) -> float:
        return math.log(answer.heard + 0.02) - cost * max(0.0, answer.nats - free)

    kept: dict[str, list[tuple[str, str]]] = {}
    for name in dict.fromkeys(answer.emotion for answer in answers):
        own = [answer for answer in answers if answer.emotion == name and _fit(answer)]
        if not own:
            raise EmokernelError(f"no answer of {name} can be kept: write some at other strengths")
        least = np.quantile([answer.heard for answer in own], _DROPPED)
        heard = sorted((each for each in own if each.heard >= least), key=worth, reverse=True)
        queries, openings = Counter[str](), Counter[str]()
        chosen: list[tuple[str, str]] = []
        for answer in heard:
            opening = " ".join(answer.text.lower().split()[:3])
            if queries[answer.query] < _OF_QUERY and openings[opening] < _OF_OPENING:
                queries[answer.query] += 1
                openings[opening] += 1
                chosen.append((answer.query, answer.text))
        kept[name] = chosen[:count]
    return kept


def _fit(answer: Answer) -> bool:
    return (
        answer.tokens >= _SHORTEST
        and repetition([answer.text]) < _REPEATED
        and is_presentable(answer.text)
    )
