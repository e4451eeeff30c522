"""What an extraction was made from: for the provenance of vectors and the settings of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from emokernel.lab.extract.options import Options
from emokernel.lab.extract.prompts import Conditioning
from emokernel.lab.extract.queries import Queries
from emokernel.lab.extract.samples import Group
from emokernel.lab.measure.fingerprint import fingerprint
from emokernel.lab.measure.sampling import Sampling
from emokernel.weights import identity


def count_texts(groups: Sequence[Group], tokens: np.ndarray) -> dict[str, dict[str, int]]:
    """Texts and tokens of each emotion and of the neutral texts, given each text's ``tokens``."""
    rows = {group.emotion: list(group.rows) for group in groups}
    rows["neutral"] = sorted({row for group in groups for row in group.neutral})
    return {
        name: {"texts": len(own), "tokens": int(tokens[own].sum())} for name, own in rows.items()
    }


def settings_of(options: Options, about: Mapping[str, Any]) -> dict[str, Any]:
    """What the rows depend on; the method is none of it, so another one needs no second reading."""
    return {
        **about["model"],
        "data": about["data"],
        "site": options.site,
        "rows": "last" if options.tokens == "last" else "mean",
        "layers": options.layers,
        "batch_tokens": options.batch_tokens,
        "batch_size": options.batch_size,
        "versions": versions(),
    }


def describe_model(model: nn.Module, name: str | None, revision: str | None) -> dict[str, Any]:
    """Name, revision, dtype and fingerprint; as the model says itself where None is given."""
    config = model.config
    called = name or getattr(config, "_name_or_path", "") or type(model).__name__
    return {
        "model": identity(called),
        "revision": revision or getattr(config, "_commit_hash", None) or "unknown",
        "dtype": str(model.dtype).removeprefix("torch."),
        "fingerprint": fingerprint(model),
    }


def describe_answers(
    queries: Queries, conditioning: Conditioning, sampling: Sampling
) -> dict[str, Any]:
    """What a model's own answers came from."""
    return {
        "queries": dict(queries.provenance),
        "conditioning": conditioning.describe(),
        "sampling": dict(vars(sampling)),
    }


def versions() -> dict[str, str]:
    """The versions that the numbers depend on."""
    from emokernel import __version__

    return {
        "emokernel": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
