"""What a measurement uses where the user has nothing: random vectors, and copies of a model."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from emokernel.errors import ModelStructureError
from emokernel.patch.decoder import find_decoder, streams_of
from emokernel.steering import patch
from emokernel.vectors import EmotionVectors

# Of a random vector, in norms of the rows that it is added to.
_SCALE = 0.2


def random_vectors(
    model: PreTrainedModel,
    *,
    site: str = "attention",
    norms: Tensor | None = None,
    emotions: int = 4,
) -> EmotionVectors:
    """Random vectors for a model that has none, of unit norm or of ``norms`` ``[L]``."""
    decoder = find_decoder(model)
    generator = torch.Generator().manual_seed(0)
    shape = len(decoder.blocks), decoder.hidden_size
    lengths = torch.ones(shape[0]) if norms is None else norms
    directions = (
        nn.functional.normalize(torch.randn(shape, generator=generator), dim=-1)
        for _ in range(emotions)
    )
    return EmotionVectors.from_tensors(
        {f"emotion{n}": lengths[:, None] * each for n, each in enumerate(directions)}, site=site
    )


def scaled_random_vectors(model: PreTrainedModel, emotions: int = 4) -> EmotionVectors:
    """Random vectors a fifth as long as the rows of the stream in their layer.

    At site "attention" where the model can be patched there, at "block" otherwise;
    ModelStructureError if it can be patched at neither.
    """
    norms = _SCALE * stream_norms(model)
    vectors = random_vectors(model, norms=norms, emotions=emotions)
    try:
        patch(model, vectors).unpatch()
    except ModelStructureError:
        vectors = random_vectors(model, site="block", norms=norms, emotions=emotions)
        patch(model, vectors).unpatch()
    return vectors


def stream_norms(model: PreTrainedModel) -> Tensor:
    """The median norm of the rows after each block, ``[L]`` fp32, over a few tokens.

    Not the mean: the first token's row may be a hundred times as long as the others.
    """
    streams = streams_of(model, find_decoder(model).blocks).values()
    return torch.stack([stream.float().norm(dim=-1).median().cpu() for stream in streams])


def sharing_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the modules around the same parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
