"""What tells one run of an evaluation from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from emokernel.lab.evaluate.analyse import Judged
from emokernel.lab.evaluate.prompting import Prompting
from emokernel.lab.measure.sampling import Sampling
from emokernel.steering import Steering
from emokernel.vectors.fingerprint import fingerprint


def identity(
    model: Any,
    steering: Steering,
    prompting: Prompting,
    sampling: Sampling,
    judges: Sequence[Judged],
) -> dict[str, Any]:
    """What decides what a text is, how it is read, and nothing else."""
    vectors, coordinates = steering.vectors, prompting.coordinates
    table = {label: (point.valence, point.arousal) for label, point in coordinates.points.items()}
    return {
        "model": fingerprint(model),
        "dtype": str(model.dtype),
        "vectors": vectors.digest(),
        "calibration": _hash(vectors.calibration.to_json() if vectors.calibration else None),
        "steering": [steering.defaults.law, steering.defaults.dose, steering.mapping],
        "prompts": prompting.describe(),
        "sampling": [sampling.max_new_tokens, sampling.temperature, sampling.top_p],
        "judges": {each.name: each.reader.judge.digest() for each in judges},
        "labels": {each.name: dict(each.reader.labels_of) for each in judges},
        "coordinates": {coordinates.name: _hash(table)},
    }


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
