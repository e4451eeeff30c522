"""Calibration: the site, the layers and the strengths at which an emotion is strongest while the
text stays fluent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from emokernel.affect import Coordinates
from emokernel.choices import DOSE, LAW
from emokernel.errors import EmokernelError
from emokernel.extras import need
from emokernel.lab.calibrate.calibrated import Calibrated, Row
from emokernel.lab.calibrate.calibrator import Calibrator
from emokernel.lab.calibrate.candidates import candidates
from emokernel.lab.calibrate.choose import Bounds, Point
from emokernel.lab.calibrate.plan import LEVELS, PROBE, Plan
from emokernel.lab.calibrate.setting import Prompts, Setting
from emokernel.lab.judges import EVALUATING, TRANSFORMER
from emokernel.lab.measure.classifiers import LabelsOf, TextClassifier, check_labels
from emokernel.lab.measure.fingerprint import check_made_from, fingerprint
from emokernel.lab.measure.journal import Journal
from emokernel.lab.measure.sampling import Sampling
from emokernel.patch.decoder import find_decoder
from emokernel.replaced import has_replaced
from emokernel.vectors import EmotionVectors

__all__ = ["Bounds", "Calibrated", "Calibrator", "Point", "Prompts", "Row", "calibrate"]


def calibrate(
    model: Any,
    tokenizer: Any,
    vectors: EmotionVectors | Sequence[EmotionVectors],
    *,
    judge: TextClassifier,
    prompts: Prompts | None = None,
    bounds: Bounds | None = None,
    sampling: Sampling | None = None,
    sites: Sequence[str] | None = None,
    laws: Sequence[str] = tuple(LAW),
    doses: Sequence[str] = tuple(DOSE),
    coordinates: Coordinates | str = "russell",
    labels: LabelsOf | None = None,
    other_model: bool = False,
    journal: str | PathLike[str] | None = None,
    restart: bool = False,
    batch_size: int = 240,
    effort: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> Calibrated:
    """Find what strength 1.0 of ``vectors`` is to mean; `Calibrator` says how.

    Of several vectors, such as those of both sites, the best are calibrated. ``judge`` reads the
    texts; it must not be the classifier that evaluates the result. ``prompts``: 40 of the package's
    own unless given. ``bounds``: perplexity at most 1.5 times and distinct-3 at least 0.9 times
    unsteered, and 0.05 more repeated within a text, unless given. ``sites``: unless given, both for
    one file, and of several each at its own. ``labels``: {emotion: the judge's label or labels}
    where they are called otherwise. ``other_model`` allows vectors that were made from another
    model. ``journal``: a file that keeps what was measured, so that an interrupted run goes
    on; ``restart`` forgets it. ``batch_size``: texts that are written at once. ``effort``: how many
    texts are written, times the usual number. ``seed``: of their random numbers.

    Raises EmokernelError for vectors of another model, an emotion that the judge does not know, a
    journal of another run; ModelStructureError for a model that cannot be patched.
    """
    several = [vectors] if isinstance(vectors, EmotionVectors) else list(vectors)
    check_inputs(several, judge, labels or {}, sites)
    if has_replaced(find_decoder(model).owner):
        raise EmokernelError("calibrate the model itself: call unpatch() on its Steering first")
    if isinstance(coordinates, str):
        coordinates = Coordinates.named(coordinates)
    for each in several:
        check_made_from(each, model, other_model)
    prompts = prompts or Prompts.of(tokenizer)
    # Openings are sentences begun; an answer in a chat needs room to come to the point.
    sampling = sampling or Sampling(28 if prompts.special_tokens else 64)
    labels, bounds = dict(labels or {}), bounds or Bounds()
    setting = Setting(
        model, tokenizer, judge, prompts, sampling, coordinates, labels, batch_size, seed
    )
    plan = Plan.of(effort)
    pairs = [(law, dose) for law in laws for dose in doses]
    settings = {
        "model": fingerprint(model),
        "vectors": [each.digest() for each in several],
        "judge": [judge.name, judge.digest()],
        "dtype": str(model.dtype),
        "special_tokens": prompts.special_tokens,
        "suggested_profiles": [each.diagnostics.get("suggested_profile") for each in several],
        "plan": asdict(plan),
        "levels": [PROBE, *LEVELS],
        "seed": seed,
        "prompts": prompts.pairs,
        "bounds": asdict(bounds),
        "sampling": asdict(sampling),
        "sites": sites,
        "doses": pairs,
        "coordinates": {
            label: (at.valence, at.arousal) for label, at in coordinates.points.items()
        },
        "labels": labels,
    }
    kept = Journal(Path(journal) if journal else None, settings, restart=restart)
    return Calibrator(setting, bounds, pairs, kept, plan, progress=progress).run(several, sites)


def check_inputs(
    vectors: Sequence[EmotionVectors],
    judge: TextClassifier,
    labels: LabelsOf,
    sites: Sequence[str] | None = None,
) -> None:
    """What `calibrate` refuses of its arguments, whatever the model is: EmokernelError."""
    need("sklearn")
    if not vectors:
        raise EmokernelError("no vectors given to calibrate")
    if len({frozenset(each.names) for each in vectors}) > 1:
        raise EmokernelError(
            "the files hold different emotions, so their scores cannot be compared: select the same"
            " ones of each"
        )
    if judge.name in (EVALUATING, TRANSFORMER):
        raise EmokernelError(
            f"{judge.name} evaluates; what it chose it would find good: calibrate with another"
            " judge, such as embedded-calibration"
        )
    check_labels(judge, vectors[0].names, labels)
    if not candidates(vectors, sites):
        raise EmokernelError("the vectors are zero in every layer: extract them again")
