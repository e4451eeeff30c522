"""Data parallelism: the whole model in every process, with requests of its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from parallel.models import REQUESTS, Models, batch, refusal, vectors
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from emokernel import Steering, patch


def _requests_of(rank: int) -> list:
    return [*REQUESTS[rank:], *REQUESTS[:rank]]


def _trained(model: nn.Module, steering: Steering, rank: int) -> Tensor:
    """The logits of a step with the requests of ``rank``; gradients are left in the weights."""
    with steering.requests(_requests_of(rank)):
        output = model(**batch()).logits
        output.logsumexp(-1).sum().backward()
    return output.detach()


def _gradients(model: PreTrainedModel) -> list[Tensor]:
    return [parameter.grad for parameter in model.parameters()]


def by_ranks(models: Models, first: str) -> dict[str, Any]:
    """Patched before or within DDP: (alone, in DDP) of the logits and of the mean gradients."""
    rank, count = dist.get_rank(), dist.get_world_size()
    alone, expected = [], []
    for each in range(count):
        model = models.load()
        alone.append(_trained(model, patch(model, vectors()), each))
        expected.append(_gradients(model))
    model = models.load()
    if first == "patch":
        steering = patch(model, vectors())
        wrapped = DistributedDataParallel(model)
    else:
        wrapped = DistributedDataParallel(model)
        steering = patch(wrapped.module, vectors())
    found: dict[str, Any] = {"logits": (alone[rank], _trained(wrapped, steering, rank))}
    mean = [torch.stack(each).mean(0) for each in zip(*expected, strict=True)]
    found["gradients"] = (
        torch.cat([each.flatten() for each in mean]),
        torch.cat([each.flatten() for each in _gradients(model)]),
    )
    found["other rank"] = alone[1 - rank]
    return found


SCENARIOS = {
    "patch": lambda models: by_ranks(models, "patch"),
    "wrap": lambda models: by_ranks(models, "wrap"),
    "refused": lambda models: {
        "wrapper": refusal(lambda: patch(DistributedDataParallel(models.load()), vectors()))
    },
}
