"""Does a calibration of few texts find what an exhaustive one finds?

    python benchmarks/calibration.py [--efforts 0.5 1 2] [--seeds 0 1] [--files FILE ...]
    python benchmarks/calibration.py --model DIR --vectors FILE [--dtype bfloat16] ...

Calibrates the shipped vectors of the embedded model, or those of another model, once for each
effort and seed. Then texts of other random numbers, behind all prompts, say what strength 1.0 does:
how much of each emotion and state the judge of calibration and the evaluating one find, and what
it costs. So it does for files that are calibrated already, such as by another search. Writes JSON
lines and a picture to benchmarks/results.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from emokernel.affect import Affect, Coordinates
from emokernel.affect.mixes import Mixer
from emokernel.atomic import save_figure
from emokernel.bench import append, now
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.errors import NoDoseError
from emokernel.extras import need
from emokernel.lab.calibrate import Prompts, calibrate
from emokernel.lab.calibrate.measuring import Dose, Measuring, Steered
from emokernel.lab.calibrate.setting import Setting
from emokernel.lab.judges import load_classifier
from emokernel.lab.measure.classifiers import emotion_probabilities
from emokernel.lab.measure.equal_doses import Ask
from emokernel.lab.measure.journal import Journal
from emokernel.lab.measure.sampling import Sampling
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import STATES_OF_CIRCLE

RESULTS = Path(__file__).parent / "results"
EVALUATING, CALIBRATING = "embedded-evaluation", "embedded-calibration"
# Of the texts that check, none of which a calibration has seen.
FRESH = (101, 102)
STATES = tuple(Affect.at(360 / STATES_OF_CIRCLE * number) for number in range(STATES_OF_CIRCLE))


def main() -> None:
    """Calibrate, check, record and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--vectors", type=Path, help="of another model than the embedded one")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--emotions", nargs="+", help="which (all)")
    parser.add_argument("--efforts", type=float, nargs="*", default=[1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--files", type=Path, nargs="*", default=[], help="calibrated already")
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    if arguments.model == "embedded":
        (model, tokenizer), raw = load_model(dtype), load_vectors()
    else:
        model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype).eval()
        tokenizer = AutoTokenizer.from_pretrained(arguments.model)
        raw = EmotionVectors.load(arguments.vectors)
    raw = replace(raw.select(arguments.emotions or raw.names), calibration=None)
    rows, date, judge = [], now(), load_classifier(CALIBRATING)
    for effort in arguments.efforts:
        for seed in arguments.seeds:
            began = time.perf_counter()
            found = calibrate(model, tokenizer, raw, judge=judge, effort=effort, seed=seed)
            seconds = time.perf_counter() - began
            name = f"effort {effort:g}"
            facts = {"search": name, "effort": effort, "seed": seed, "seconds": seconds}
            rows.append(facts | checked(model, tokenizer, found.vectors))
            shown = {name: value for name, value in rows[-1].items() if name != "emotions"}
            print({name: value for name, value in shown.items() if name != "states"})
    for path in arguments.files:
        facts = {"search": path.stem, "seed": None, "seconds": None}
        rows.append(facts | checked(model, tokenizer, EmotionVectors.load(path)))
    where = {"model": Path(arguments.model).name, "dtype": arguments.dtype}
    recorded = append(RESULTS, "calibration", [where | row for row in rows], date)
    plot(rows, recorded.with_suffix(".png"))


def checked(model: Any, tokenizer: Any, vectors: EmotionVectors) -> dict[str, Any]:
    """What strength 1.0 of calibrated vectors does, by fresh texts behind all prompts."""
    calibration = vectors.calibration
    pair = calibration.law, calibration.dose
    asks = [Ask(name, name, *pair) for name in vectors.names]
    factors = calibration.circle[" ".join((*pair, calibration.mapping))]
    states = [state for state, factor in zip(STATES, factors, strict=True) if factor]
    asks += [Ask(f"{state.angle:.0f}", state, *pair) for state in states]
    strengths = calibration.strengths[" ".join(pair)]
    mixer = Mixer(vectors, calibration, calibration.mapping)
    asks = [ask for ask in asks if _has_dose(mixer, ask)]
    judge, other = load_classifier(CALIBRATING), load_classifier(EVALUATING)
    prompts = Prompts.of(tokenizer)
    found: dict[str, dict[str, float]] = {}
    for seed in FRESH:
        setting = Setting(
            model, tokenizer, judge, prompts, Sampling(28 if prompts.special_tokens else 64),
            Coordinates.named("russell"), {}, seed=seed,
        )  # fmt: skip
        with tqdm(desc="fresh texts", unit=" tokens") as bar:
            measuring = Measuring(setting, Journal(None, {}), bar)
            try:
                for ask, facts in _facts(measuring, setting, vectors, asks, other):
                    for name, value in facts.items():
                        of = found.setdefault(ask.name, {})
                        of[name] = of.get(name, 0.0) + value / len(FRESH)
            finally:
                measuring.close()
    names = set(vectors.names)
    return {
        "tokens": calibration.record.get("tokens"),
        "chosen": calibration.record["chosen"],
        "law": calibration.law,
        "dose": calibration.dose,
        "mapping": calibration.mapping,
        "strengths": dict(strengths),
        "profile": calibration.profile,
        "fresh_texts": len(FRESH) * len(prompts.pairs),
        "emotions": {name: of for name, of in found.items() if name in names},
        "states": {name: of for name, of in found.items() if name not in names},
    }


def _has_dose(mixer: Mixer, ask: Ask) -> bool:
    try:
        mixer.components(ask.emotion, 1.0, ask.law, ask.dose)
    except NoDoseError:
        return False
    return True


def _facts(
    measuring: Measuring, setting: Setting, vectors: EmotionVectors, asks: list[Ask], other: Any
) -> Iterator[tuple[Ask, dict[str, float]]]:
    every = tuple(range(measuring.prompts))
    doses = [Dose(ask, 1.0, every) for ask in asks]
    for ask, readings in zip(asks, measuring.read(Steered("fresh", vectors), doses), strict=True):
        point = readings.point(measuring.plain(ask, every), 1.0, 0.0)
        facts = {name: getattr(point, name) for name in ("effect", "perplexity", "distinct")}
        if isinstance(ask.emotion, str):
            openings = [setting.prompts.pairs[number][1] for number in readings.prompts]
            texts = [one + text for one, text in zip(openings, readings.texts, strict=True)]
            shown = emotion_probabilities(other, other.probabilities(texts), ask.name)
            facts["evaluating"] = float(shown.mean())
        yield ask, facts


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Left what strength 1.0 is, right what it does, of each emotion and search."""
    figure = need("matplotlib.figure").Figure(figsize=(12, 4.8), layout="constrained")
    names = list(rows[0]["emotions"])
    searches = list(dict.fromkeys(_search(row) for row in rows))
    strength = {"title": "strength 1.0 as a weight", "ylim": (0, None)}
    effect = {"title": "effect at strength 1.0, fresh texts", "ylim": (0, None)}
    for axes, of, look in zip(
        figure.subplots(1, 2), (_strength, _effect), (strength, effect), strict=True
    ):
        for row in rows:
            number = searches.index(_search(row))
            at = np.arange(len(names)) + 0.15 * (number - (len(searches) - 1) / 2)
            values = [of(row, name) for name in names]
            axes.plot(at, values, "o", color=f"C{number}", label=row["search"], alpha=0.7)
        axes.set(**look)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.legend(fontsize=7)
    save_figure(figure, path)


def _search(row: dict[str, Any]) -> str:
    return row["search"].rstrip("0123456789-") if row["seed"] is None else row["search"]


def _strength(row: dict[str, Any], name: str) -> float:
    return row["strengths"].get(name, 0.0)


def _effect(row: dict[str, Any], name: str) -> float:
    return row["emotions"].get(name, {}).get("effect", 0.0)


if __name__ == "__main__":
    main()
