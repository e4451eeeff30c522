"""The fingerprint of a model: what tells whether a file of vectors was made from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from emokernel.errors import EmokernelError
from emokernel.patch.decoder import find_decoder
from emokernel.vectors import EmotionVectors

_VALUES = 256
_SHAPE = ("model_type", "layers", "hidden_size", "vocab_size")


def fingerprint(model: nn.Module) -> dict[str, object]:
    """Kind and sizes of a model, and short hashes of some of its weights; as JSON knows it.

    ``weights``: for the input embeddings and each parameter of the first, the middle and the last
    block, 16 hex digits of the sha256 of its first 256 values. They are rounded to bfloat16 before,
    so that the same checkpoint loaded in another dtype has the same hashes (fp32 weights loaded as
    fp16 may round twice and differ). Parameters that are quantised or not loaded are left out.

    Raises ModelStructureError for a model whose decoder cannot be found.
    """
    decoder = find_decoder(model)
    config: Any = model.config
    text = config.get_text_config()
    return {
        "model_type": text.model_type,
        "layers": len(decoder.blocks),
        "hidden_size": decoder.hidden_size,
        "vocab_size": text.vocab_size,
        "weights": _hashes(model, decoder.blocks),
    }


def same_model(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two fingerprints are of the same model, in whatever dtype it was loaded.

    Sizes must agree, and all weights that both name; EmokernelError if they name none together.
    """
    if any(one.get(key) != other.get(key) for key in _SHAPE):
        return False
    mine, theirs = one.get("weights", {}), other.get("weights", {})
    common = mine.keys() & theirs.keys()
    if not common:
        raise EmokernelError(
            "the two models have no readable weights in common: load both with their weights in"
            " memory, and not quantised as a whole"
        )
    return all(mine[name] == theirs[name] for name in common)


def check_made_from(vectors: EmotionVectors, model: nn.Module, other_model: bool = False) -> None:
    """EmokernelError for vectors that say that they were made from another model.

    Unless ``other_model`` allows them.
    """
    made_from = vectors.provenance.get("fingerprint")
    if made_from and not other_model and not same_model(made_from, fingerprint(model)):
        raise EmokernelError(
            f"these vectors were made from another model ({vectors.provenance.get('model')}):"
            " extract vectors from this one, or allow them with --other-model (other_model=True)"
        )


def _hashes(model: nn.Module, blocks: Sequence[nn.Module]) -> dict[str, str]:
    embeddings: Any = model.get_input_embeddings
    parts: dict[str, nn.Module] = {
        "embeddings": embeddings(),
        **{str(index): blocks[index] for index in sorted({0, len(blocks) // 2, len(blocks) - 1})},
    }
    hashes = {}
    for part, module in parts.items():
        for name, parameter in module.named_parameters():
            if parameter.is_floating_point() and parameter.device.type != "meta":
                values = parameter.detach().reshape(-1)[:_VALUES].to("cpu", torch.bfloat16)
                sha = hashlib.sha256(values.view(torch.int16).numpy().tobytes())
                hashes[f"{part}.{name}"] = sha.hexdigest()[:16]
    return hashes
