"""Made-up results with the shape of real ones, for tests of the report and for looking at it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from emokernel.affect import TWELVE_STATES, Coordinates
from emokernel.lab.evaluate.results import (
    BOTH,
    PROMPT,
    UNSTEERED,
    VECTOR,
    Ceiling,
    CeilingState,
    Consistency,
    EmotionPoint,
    Goal,
    Interval,
    JudgeAgreement,
    JudgedEmotion,
    LawDose,
    Measures,
    Monotone,
    Results,
    Sample,
    Sentences,
    StateResult,
)

MAIN, SECOND = "embedded-evaluation", "embedded-calibration"
EMOTIONS = (
    "anger", "disgust", "fear", "joy", "sadness", "surprise", "love", "gratitude", "amusement",
    "admiration", "curiosity", "excitement", "remorse", "optimism",
)  # fmt: skip
STRENGTHS = (-1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
INTENSITIES = (0.25, 0.5, 0.75, 1.0)
TEMPLATES = {PROMPT: ("word", "numbers", "word and numbers"), BOTH: ("word",), VECTOR: ("",)}
DOSES = (0.05, 0.1, 0.2, 0.4, 0.8)
_GAIN = {PROMPT: 0.42, VECTOR: 0.58, BOTH: 0.68}


def results(
    *,
    emotions: Sequence[str] = EMOTIONS,
    judges: Sequence[str] = (MAIN, SECOND),
    laws: Sequence[str] = ("add", "preserve"),
    doses: Sequence[float] = DOSES,
    ceilings: bool = True,
    seed: int = 0,
) -> Results:
    """An evaluation of the size that the embedded model gets, unless told otherwise."""
    draw = np.random.default_rng(seed)
    return Results(
        about=_about(emotions, judges),
        ceilings=[_ceiling(judge, least, draw) for judge in judges for least in (1, 30)]
        if ceilings
        else [],
        consistency=[
            _consistency(mode, template, intensity, judge, number, draw)
            for number, judge in enumerate(judges)
            for mode, templates in TEMPLATES.items()
            for template in templates
            for intensity in (INTENSITIES if template == templates[0] else INTENSITIES[-1:])
        ],
        emotions=_emotions(emotions, judges, laws, doses, draw),
        laws=[_law_dose(dose, emotions, draw) for dose in doses] if len(laws) > 1 else [],
        monotone=[
            Monotone(emotion, law, 0.8 + 0.2 * draw.random())
            for emotion in emotions
            for law in laws
        ],
        agreement=[JudgeAgreement((MAIN, SECOND), 21600, 0.61, 0.55, 0.72, 0.78)]
        if len(judges) > 1
        else [],
        goals=[
            Goal("mean cosine, vectors", "0.58 (89 % of the ceiling)", "at least 0.75, or 85 % of"
                 " the ceiling", True),
            Goal("mean cosine above the prefix's", "0.58 against 0.42", "above", True),
            Goal("perplexity at strength 1.0", "1.32×", "at most 1.5×", True),
            Goal("monotone in strength", "0.83 (remorse)", "at least 0.9 for each emotion", False),
            Goal("the same on another device", "–", "equal to four decimals", None),
        ],
        samples=[
            Sample(
                opening,
                number,
                {"unsteered": " and then it went home to its mother and had some tea."}
                | {f"{name}, by prompt": f" thought of {name} in the middle of the road, and went"
                   " on to think of it for the rest of the day." for name in emotions[1:]}
                | {f"{name}, by vector": f" was full of {name} and could say so." for name in
                   emotions},
            )
            for number, opening in enumerate(("The man at the door", "Last night", "My sister"))
        ],
        judged=[
            JudgedEmotion(name, dict.fromkeys(judges, 0.02), dict.fromkeys(judges, draw.random()),
                          dict.fromkeys(judges, 0.5 + 0.5 * draw.random()), draw.random())
            for name in emotions
        ] if len(judges) > 1 else [],
    )  # fmt: skip


def nothing() -> Results:
    """An evaluation that found nothing at all."""
    return Results({}, [], [], [], [], [], [], [])


def without_numbers(found: Any) -> Any:
    """The same results with every measured number NaN or infinite."""
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        values = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
        kept = {"angle", "intensity", "strength", "texts", "holds", "seed", "least", "about"}
        return type(found)(
            **{key: of if key in kept else without_numbers(of) for key, of in values.items()}
        )
    if isinstance(found, dict):
        return {key: without_numbers(of) for key, of in found.items()}
    if isinstance(found, (list, tuple)):
        return type(found)(without_numbers(of) for of in found)
    if isinstance(found, float):
        return math.inf if found > 1 else math.nan
    return found


def _about(emotions: Sequence[str], judges: Sequence[str]) -> dict[str, Any]:
    roles = ("main: trained on text that neither model nor calibration saw", "chose the strengths")
    return {
        "model": {"name": "embedded", "kind": "llama", "parameters": 3_412_224},
        "vectors": {
            "emotions": list(emotions), "site": "attention", "law": "preserve",
            "dose": "absolute", "mapping": "wheel", "source": "vectors.safetensors",
        },
        "judges": [
            {"name": judge, "role": role, "labels": 28, "note": "", "accuracy": 0.58}
            for judge, role in zip(judges, roles, strict=False)
        ],
        "coordinates": "russell",
        "topic": {"other_seed": 0.31, "other_query": 0.02, "separation": 0.87},
        "sentences": {"other_seed": 0.52, "other_query": 0.11, "separation": 0.93},
        "settings": {
            "openings": 60, "questions": 0, "seeds": [0, 1, 2], "intensities": list(INTENSITIES),
            "strengths": list(STRENGTHS), "doses": list(DOSES), "templates": 3,
            "sampling": {"max_new_tokens": 28, "temperature": 0.8, "top_p": 0.9},
        },
        "notes": [
            "The embedded model follows no instructions: openings stand for questions, prefixes"
            " for prompts.",
            "The second judge chose the strengths of the vectors.",
        ],
        "machine": {"cpu": "AMD EPYC", "cores": "2"},
        "versions": {"emokernel": "0.6", "torch": "2.13.0"},
        "seconds": 811.4,
        "command": "emokernel evaluate embedded -o evaluation",
    }  # fmt: skip


def _interval(mean: float, half: float = 0.03) -> Interval:
    return Interval(float(mean), float(mean - half), float(mean + half))


def _degrees() -> list[float]:
    return [state.angle for state in TWELVE_STATES]


def _consistency(
    mode: str, template: str, intensity: float, judge: str, number: int, draw: Any
) -> Consistency:
    table = Coordinates.named("russell")
    best = (
        _GAIN[mode] * (0.35 + 0.65 * intensity) * (0.9 if number else 1)
        - 0.05 * TEMPLATES[mode].index(template)
    )  # fmt: skip
    states = []
    for angle in _degrees():
        cosine = np.clip(best + 0.22 * math.cos(math.radians(angle - 60)) - 0.05, -1, 1)
        turn = math.radians(angle + draw.normal(0, 18))
        length = 0.25 + 0.5 * best
        near = sorted(
            table,
            key=lambda name: (abs((table[name].angle - angle + 180) % 360 - 180), name),
        )[:4]
        tops = {name: 80 // (place + 1) for place, name in enumerate(near)} | {"neutral": 12}
        states.append(
            StateResult(
                angle, _interval(cosine, 0.06),
                (length * math.cos(turn), length * math.sin(turn)), tops,
            )
        )  # fmt: skip
    mean = float(np.mean([state.cosine.mean for state in states]))
    return Consistency(
        mode, template, intensity, judge, _interval(mean, 0.025), mean + 0.2,
        Interval(0.01, -0.03, 0.05), 0.001, 0.14, 0.0 if mode == VECTOR else 0.02, 0.001,
        1 + 0.32 * intensity, 1 - 0.05 * intensity, 2160, states,
    )  # fmt: skip


def _ceiling(judge: str, least: int, draw: Any) -> Ceiling:
    labels = (
        "surprise", "excitement", "joy", "love", "approval", "relief", "caring", "grief",
        "sadness", "disappointment", "annoyance", "anger",
    )  # fmt: skip
    states = [
        CeilingState(angle, label, int(draw.integers(25, 400)), float(0.45 + 0.4 * draw.random()))
        for angle, label in zip(_degrees(), labels, strict=True)
    ]
    mean = 0.65 if least == 1 else 0.61
    return Ceiling(judge, "GoEmotions, test split", least, _interval(mean), 0.93, states)


def _measures(gain: float, strength: float, judges: Sequence[str], draw: Any) -> Measures:
    beyond = max(0.0, abs(strength) - 0.5)
    ratio = 1 + 0.35 * beyond**1.7
    return Measures(
        intended={judge: _interval(np.clip(gain + draw.normal(0, 0.01), 0.02, 1), 0.02)
                  for judge in judges},
        top={judge: _interval(np.clip(0.9 * gain, 0, 1), 0.02) for judge in judges},
        perplexity=14.2 * ratio, perplexity_ratio=ratio,
        distinct={"1": 0.21, "2": 0.62, "3": 0.91 - 0.06 * beyond},
        distinct_3_ratio=1 - 0.07 * beyond, repetition=0.01 + 0.05 * beyond**2,
        looping=0.02 * beyond,
        to_unsteered=_interval(0.6 / (1 + 0.4 * beyond), 0.02),
        to_query=_interval(0.3 / (1 + 0.2 * beyond), 0.02),
        refusals=0.0, empty=0.0, texts=180,
        sentences=Sentences(
            _interval(0.5 / (1 + 0.3 * beyond), 0.02), _interval(0.4 / (1 + 0.1 * beyond), 0.02),
            _interval(1 / (1 + 0.1 * beyond), 0.02),
        ),
    )  # fmt: skip


def _emotions(
    emotions: Sequence[str],
    judges: Sequence[str],
    laws: Sequence[str],
    doses: Sequence[float],
    draw: Any,
) -> list[EmotionPoint]:
    points = []
    for emotion in emotions:
        reach = 0.2 + 0.5 * draw.random()
        points.append(
            EmotionPoint(emotion, UNSTEERED, "", "", 0.0, 0.0,
                         _measures(0.03, 0.0, judges, draw))
        )  # fmt: skip
        for part, template in ((0.75, "word"), (0.5, "numbers")):
            measures = _measures(part * reach, 0.7, judges, draw)
            points.append(EmotionPoint(emotion, PROMPT, "", "", 0.0, math.nan, measures, template))
        for law in laws:
            for by, levels in (("strength", STRENGTHS), ("dose", doses)):
                for level in levels:
                    strength = level if by == "strength" else 2.2 * math.sqrt(level)
                    gain = 0.03 + reach * np.tanh(max(0.0, strength)) * (1 - 0.03 * strength**2)
                    points.append(
                        EmotionPoint(
                            emotion, VECTOR, law, by, strength, strength**2 / 5,
                            _measures(gain, strength * (1.1 if law == "add" else 1), judges, draw),
                        )
                    )  # fmt: skip
    return points


def _law_dose(dose: float, emotions: Sequence[str], draw: Any) -> LawDose:
    base, gap = 0.45 * math.tanh(3 * dose), float(draw.normal(-0.004, 0.012))
    return LawDose(
        dose, {"add": 1.03 * dose, "preserve": 0.98 * dose}, list(emotions),
        {"add": base, "preserve": base + gap},
        {"add": 1 + 1.1 * dose, "preserve": 1 + 1.05 * dose},
        _interval(gap, 0.014), _interval(-0.05 * dose, 0.02), _interval(0.004, 0.008),
    )  # fmt: skip
