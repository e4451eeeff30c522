"""Classifiers by name: the judges that ship, and models of transformers."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from emokernel.errors import EmokernelError
from emokernel.lab.measure.classifiers import TextClassifier

EVALUATING = "embedded-evaluation"
EMBEDDED = (EVALUATING, "embedded-calibration")
TRANSFORMER = "goemotions-minilm"
# Those that ship, or what they learnt does; they bring what they read in human text.
SHIPPED = (*EMBEDDED, TRANSFORMER)


def load_classifier(
    name: str,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    labels: Mapping[str, str] | None = None,
    multi_label: bool | None = None,
    progress: bool = False,
) -> TextClassifier:
    """A classifier by name.

    "embedded-evaluation" and "embedded-calibration" are the judges that ship with the package:
    28 GoEmotions labels, trained on different halves of the data, on the CPU whatever ``device``
    says. "goemotions-minilm", a transformer, knows the same labels better; it was trained on the
    half of the first, and the weights that it stands on are fetched once. Any other name is a text
    classification model of transformers, a folder or a repository id of the Hub. For those,
    ``labels`` gives labels of the model other names, ``{"LABEL_0": "joy"}``, and ``multi_label``
    overrides what the model's configuration says. Of both kinds of transformers, ``progress`` shows
    a bar, and ``device`` is the first GPU if there is one, and the CPU otherwise.

    Raises EmokernelError for a model without named labels or that is no text classifier, and
    OSError where transformers finds no model.
    """
    if not name.startswith("embedded") and name not in SHIPPED:
        from emokernel.lab.judges.transformers_classifier import TransformersClassifier

        return TransformersClassifier.load(
            name,
            revision=revision,
            device=device,
            labels=labels or {},
            multi_label=multi_label,
            progress=progress,
        )
    if name not in SHIPPED:
        raise EmokernelError(f"no classifier {name!r}: the embedded ones are {', '.join(EMBEDDED)}")
    if revision is not None or labels is not None or multi_label is not None:
        raise EmokernelError(
            f"{name!r} is part of the package: leave out revision, labels and multi_label"
        )
    if name == TRANSFORMER:
        from emokernel.lab.judges.goemotions_minilm import load_judge

        return load_judge(device=device, progress=progress)
    from emokernel.lab.judges.judge import CalibrationJudge, Judge

    return {judge.name: judge for judge in (Judge, CalibrationJudge)}[name].load()
