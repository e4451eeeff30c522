"""The demo's experiment: the same openings under every emotion, judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from tqdm import tqdm

from emokernel.affect import TWELVE_STATES
from emokernel.demo.clean import is_presentable
from emokernel.demo.judge import Judge
from emokernel.demo.model import prefix
from emokernel.errors import EmokernelError
from emokernel.evaluate.affect import affect_of, cosine
from emokernel.evaluate.fluency import distinct_n, perplexity
from emokernel.evaluate.generation import Job, Written, write
from emokernel.evaluate.intervals import mean_interval
from emokernel.sampling import Sampling
from emokernel.steering import Request, Steering

UNSTEERED, STEERED, PREFIX, STATE = "unsteered", "steered", "prefix", "state"
CONDITIONS = (UNSTEERED, STEERED, PREFIX)
SAMPLING = Sampling(max_new_tokens=28, temperature=0.8, top_p=0.9)


@dataclass(frozen=True)
class Results:
    """What was written, and the sections of the report that follow from it."""

    written: list[Written]
    emotions: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]]
    fluency: dict[str, dict[str, float]]
    fluency_by_emotion: dict[str, dict[str, float]]
    states: list[dict[str, float]]


def jobs_for(openings: Sequence[str], emotions: Sequence[str]) -> list[Job]:
    """Every opening unsteered, under each emotion by vector and by prefix, and in 12 states."""
    jobs = []
    for opening in openings:
        jobs.append(Job("", UNSTEERED, opening))
        for emotion in emotions:
            jobs.append(Job(emotion, STEERED, opening, Request(emotion)))
            jobs.append(Job(emotion, PREFIX, opening, prefix=prefix(emotion), query=opening))
        for number, state in enumerate(TWELVE_STATES):
            jobs.append(Job(str(number), STATE, opening, Request(state)))
    return jobs


def run(
    model: Any,
    tokenizer: Any,
    steering: Steering,
    emotions: Sequence[str],
    openings: Sequence[str],
    *,
    seeds: Sequence[int] = (0, 1, 2),
) -> Results:
    """Write, judge and measure; every emotion and state at strength 1.0."""
    jobs = jobs_for(openings, emotions)
    written: list[Written] = []
    with tqdm(total=len(jobs) * len(seeds), desc="writing", unit=" texts") as bar:
        for seed in seeds:
            for batch in write(
                model, tokenizer, steering, jobs, seed, sampling=SAMPLING, accept=is_presentable
            ):
                written += batch
                bar.update(len(batch))
    judge = Judge.load()
    calibrated = steering.vectors.calibration
    if calibrated and calibrated.record.get("judge_digest") == judge.digest():
        raise EmokernelError(
            "the judge that would evaluate these strengths has chosen them: calibrate with another"
        )
    probabilities = judge.probabilities([one.text for one in written])
    rows: dict[tuple[str, str], list[int]] = {}
    for row, one in enumerate(written):
        rows.setdefault((one.job.condition, one.job.name), []).append(row)

    def probability(emotion: str, condition: str) -> tuple[float, float, float]:
        chosen = rows[condition, "" if condition == UNSTEERED else emotion]
        column = judge.labels.index(emotion)
        openings = [written[row].job.opening for row in chosen]
        return mean_interval(probabilities[chosen, column].tolist(), openings)

    measured = {e: {c: probability(e, c) for c in CONDITIONS} for e in emotions}
    groups = {
        condition: [
            [written[row] for row in chosen] for (of, _), chosen in rows.items() if of == condition
        ]
        for condition in CONDITIONS
    }
    steering.off()
    return Results(
        written,
        {e: {c: m[0] for c, m in of.items()} for e, of in measured.items()},
        {e: {c: m[1:] for c, m in of.items()} for e, of in measured.items()},
        {c: _fluency(model, tokenizer, groups[c]) for c in CONDITIONS},
        {
            e: _fluency(model, tokenizer, [[written[row] for row in rows[STEERED, e]]])
            for e in emotions
        },
        [
            _state(number, affect_of(probabilities[rows[STATE, str(number)]], judge.labels))
            for number in range(len(TWELVE_STATES))
        ],
    )


def _fluency(model: Any, tokenizer: Any, groups: Sequence[Sequence[Written]]) -> dict[str, float]:
    """Of continuations: distinct-3 (mean over emotions, each as many texts), perplexity of all."""
    pairs = [[one.pair for one in group] for group in groups]
    distinct = [distinct_n([text for _, text in group]) for group in pairs]
    return {
        "distinct_3": mean(distinct),
        "perplexity": perplexity(model, tokenizer, [pair for group in pairs for pair in group]),
    }


def _state(number: int, points: Any) -> dict[str, float]:
    """Target, mean affect of the texts, and the cosine between the two."""
    target, measured = TWELVE_STATES[number], points.mean(0)
    return {
        "valence": target.valence,
        "arousal": target.arousal,
        "measured_valence": measured[0].item(),
        "measured_arousal": measured[1].item(),
        "cosine": cosine(measured, target),
    }
