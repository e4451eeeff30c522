"""What an evaluation found, as plain data that the report draws and a file keeps.

`docs/evaluation.md` and the report itself define the figures. Shares are 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PROMPT, VECTOR, BOTH, UNSTEERED = "prompt", "vector", "both", "unsteered"


@dataclass(frozen=True)
class Interval:
    """A mean, or a ratio of two, and its 95 % interval by bootstrap over openings."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class StateResult:
    """One state of the circle: cosine per text; ``found``, the mean (valence, arousal) of the top
    labels; ``tops``: {label: texts}, most frequent first.
    """

    angle: float
    cosine: Interval
    found: tuple[float, float]
    tops: Mapping[str, int]


@dataclass(frozen=True)
class Consistency:
    """Twelve states asked for in one way, as one judge reads the answers.

    mode: prompt, vector or both. template: how it was prompted ("" for vectors alone). intensity:
    0..1. floor: mean and the 2.5 and 97.5 percentiles over shuffles of the states; p: share of
    shuffles at least as good. placeless, refusals, empty: shares of the texts. perplexity and
    distinct_3: times those of unsteered texts.
    """

    mode: str
    template: str
    intensity: float
    judge: str
    cosine: Interval
    pooled: float
    floor: Interval
    p: float
    placeless: float
    refusals: float
    empty: float
    perplexity: float
    distinct_3: float
    texts: int
    states: Sequence[StateResult]


@dataclass(frozen=True)
class CeilingState:
    """Human text of the label that is nearest to a state; ``texts`` says how much of it."""

    angle: float
    label: str
    texts: int
    cosine: float


@dataclass(frozen=True)
class Ceiling:
    """The same pipeline on human text. ``least``: a label needs so many texts to be taken."""

    judge: str
    source: str
    least: int
    cosine: Interval
    pooled: float
    states: Sequence[CeilingState]


@dataclass(frozen=True)
class Sentences:
    """What a sentence encoder says of the topic: similarity with the unsteered answer and with the
    query, -1..1; kept: that with the query as a share of what it is of the unsteered answers.
    """

    to_unsteered: Interval
    to_query: Interval
    kept: Interval


@dataclass(frozen=True)
class Measures:
    """Texts of one condition.

    intended: {judge: mean probability of the intended emotion's labels}; top: {judge: share of the
    texts whose top label is one of these}; both of the judges that know the emotion. The ratios are
    to the unsteered texts. distinct: {n: distinct n-grams over all}, n = 1, 2, 3. repetition: mean
    over texts; looping: share of texts, see `emokernel.lab.measure.fluency`. to_unsteered,
    to_query: topic adherence by the model's hidden states, -1..1; sentences: by an encoder, if
    there is one.
    """

    intended: Mapping[str, Interval]
    top: Mapping[str, Interval]
    perplexity: float
    perplexity_ratio: float
    distinct: Mapping[str, float]
    distinct_3_ratio: float
    repetition: float
    looping: float
    to_unsteered: Interval
    to_query: Interval
    refusals: float
    empty: float
    texts: int
    sentences: Sentences | None = None


@dataclass(frozen=True)
class EmotionPoint:
    """One emotion under one condition.

    mode: unsteered (strength 0), prompt or vector. by: "strength" or "dose", which of the two was
    given; divergence: as measured, nats per token, NaN for prompts. template: of the prompt.
    """

    emotion: str
    mode: str
    law: str
    by: str
    strength: float
    divergence: float
    measures: Measures
    template: str = ""


@dataclass(frozen=True)
class LawDose:
    """All emotions at one dose under both laws; differences are preserve less add, paired.

    divergence: the dose that was asked for; realised: {law: mean divergence at the strengths that
    were found}. intended_difference: by the main judge. surprise_difference: nats per token.
    ``emotions``: those that reach the dose under both laws.
    """

    divergence: float
    realised: Mapping[str, float]
    emotions: Sequence[str]
    intended: Mapping[str, float]
    perplexity_ratio: Mapping[str, float]
    intended_difference: Interval
    surprise_difference: Interval
    adherence_difference: Interval


@dataclass(frozen=True)
class Monotone:
    """Spearman's rank correlation of strength 0..1 and intended probability of one emotion."""

    emotion: str
    law: str
    correlation: float


@dataclass(frozen=True)
class JudgeAgreement:
    """Two judges on the same texts, see `emokernel.lab.evaluate.consistency.agreement`."""

    judges: tuple[str, str]
    texts: int
    equal: float
    kappa: float
    cosine_correlation: float
    within_45: float


@dataclass(frozen=True)
class JudgedEmotion:
    """One emotion as each of two judges reads it, in texts by vector at strength 1.0.

    unsteered, steered: {judge: mean probability of the emotion}. separation: {judge: the
    probability that it finds more of the emotion in a steered text than in an unsteered one}, the
    area under the ROC curve. correlation: Spearman's, of what both find in the steered texts.
    """

    emotion: str
    unsteered: Mapping[str, float]
    steered: Mapping[str, float]
    separation: Mapping[str, float]
    correlation: float


@dataclass(frozen=True)
class Goal:
    """Something the evaluation was asked to show, and whether it did; None if not measured.

    doubt: that the texts are too few to tell, and how many would do; "" if they tell.
    """

    name: str
    value: str
    bound: str
    holds: bool | None
    doubt: str = ""


@dataclass(frozen=True)
class Sample:
    """Answers to one opening and seed, {condition: text} in the order of the report."""

    opening: str
    seed: int
    texts: Mapping[str, str]


@dataclass(frozen=True)
class Results:
    """All of it. ``about``: model, vectors, judges, settings, machine, versions, seconds, notes."""

    about: Mapping[str, Any]
    ceilings: Sequence[Ceiling]
    consistency: Sequence[Consistency]
    emotions: Sequence[EmotionPoint]
    laws: Sequence[LawDose]
    monotone: Sequence[Monotone]
    agreement: Sequence[JudgeAgreement]
    goals: Sequence[Goal]
    samples: Sequence[Sample] = field(default_factory=tuple)
    judged: Sequence[JudgedEmotion] = field(default_factory=tuple)
