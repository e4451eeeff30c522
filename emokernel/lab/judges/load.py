"""Classifiers by name: the embedded judges, and models of transformers."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from emokernel.errors import EmokernelError
from emokernel.lab.measure.classifiers import TextClassifier

EVALUATING = "embedded-evaluation"
EMBEDDED = (EVALUATING, "embedded-calibration")


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
    says. Any other name is a text classification model of transformers, a folder or a repository
    id of the Hub. For those, ``labels`` gives labels of the model other names, ``{"LABEL_0":
    "joy"}``; ``multi_label`` overrides what the model's configuration says; ``progress`` shows a
    bar. ``device`` is the first GPU if there is one, and the CPU otherwise.

    Raises EmokernelError for a model without named labels or that is no text classifier, and
    OSError where transformers finds no model.
    """
    if not name.startswith("embedded"):
        from emokernel.lab.judges.transformers_classifier import TransformersClassifier

        return TransformersClassifier.load(
            name,
            revision=revision,
            device=device,
            labels=labels or {},
            multi_label=multi_label,
            progress=progress,
        )
    if name not in EMBEDDED:
        raise EmokernelError(f"no classifier {name!r}: the embedded ones are {', '.join(EMBEDDED)}")
    if revision is not None or labels is not None or multi_label is not None:
        raise EmokernelError(
            f"{name!r} is part of the package: leave out revision, labels and multi_label"
        )
    from emokernel.lab.judges.judge import CalibrationJudge, Judge

    return {judge.name: judge for judge in (Judge, CalibrationJudge)}[name].load()
