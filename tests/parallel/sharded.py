"""FSDP, both kinds: each process holds a shard of every weight."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from parallel.comparison import against_one
from parallel.models import REQUESTS, Models, batch, logits, refusal, vectors
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from transformers import PreTrainedModel

from emokernel import patch


def _shard(model: PreTrainedModel, parts: str, **options: object) -> PreTrainedModel:
    """FSDP2 of the whole model as one, of each block too, or of the last norm and head too."""
    if parts == "blocks":
        for block in model.model.layers:
            fully_shard(block, **options)
    if parts == "tail":
        fully_shard([model.model.norm, model.lm_head])
    fully_shard(model, **options)
    return model


def _wrap(model: PreTrainedModel, parts: str, original: bool) -> nn.Module:
    """FSDP1."""
    policy = ModuleWrapPolicy({type(model.model.layers[0])}) if parts == "blocks" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FullyShardedDataParallel(
            model, auto_wrap_policy=policy, use_orig_params=original, device_id=torch.device("cpu")
        )


def patched_first(
    models: Models, shard: Callable[[PreTrainedModel], nn.Module], family: str = "llama"
) -> dict[str, tuple[Tensor, Tensor]]:
    """(Alone, sharded) of what a patched model computes that is sharded then."""
    one, many = models.load(family), models.load(family)
    steerings = [patch(model, vectors()) for model in (one, many)]
    sharded = shard(many)
    runs = tuple(zip((one, sharded), steerings, strict=True))
    optimizers = [torch.optim.SGD(model.parameters(), lr=1e-3) for model, _ in runs]
    found = {"off": tuple(logits(model) for model, _ in runs)}
    for _, steering in runs:
        steering.set("joy", 1.0)
    found["set"] = tuple(logits(model) for model, _ in runs)
    found["training"] = tuple(
        _stepped(model, optimizer) for (model, _), optimizer in zip(runs, optimizers, strict=True)
    )
    found["after training"] = tuple(logits(model) for model, _ in runs)
    asked = []
    for model, steering in runs:
        with steering.requests(REQUESTS):
            asked.append(logits(model))
    return found | {"requests": tuple(asked)}


def _stepped(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
    """The logits of a training step that changes every weight."""
    given = batch()
    output = model(**given).logits * given["attention_mask"][..., None]
    (output**2).sum().backward()
    optimizer.step()
    return output.detach()


def mixed(models: Models) -> dict[str, tuple[Tensor, Tensor]]:
    """Weights kept in fp32 and gathered in bf16, against a bf16 model."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    return against_one(
        models.load().to(torch.bfloat16), _shard(models.load(), "blocks", mp_policy=policy)
    )


def mixed_late(models: Models) -> dict[str, str]:
    """What turns to bf16 after it was patched in fp32."""
    model = models.load()
    patch(model, vectors())
    _shard(model, "blocks", mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    return {"model": refusal(lambda: logits(model))}


def refused(models: Models) -> dict[str, str]:
    """FSDP1 before patching: the wrapper, and what it wraps."""
    found = {}
    for original in (True, False):
        for parts in ("whole", "blocks"):
            model = models.load()
            wrapper = _wrap(model, parts, original)
            for name, given in {"wrapper": wrapper, "inside": model}.items():
                found[f"{name} {parts} {original}"] = refusal(lambda m=given: patch(m, vectors()))
    return found


SCENARIOS = {
    "plan": lambda models: against_one(models.load(), models.spread(fsdp_size=2)),
    **{
        f"{parts} first": lambda models, parts=parts: against_one(
            models.load(), _shard(models.load(), parts)
        )
        for parts in ("whole", "blocks", "tail")
    },
    **{
        f"patch first, {parts}": lambda models, parts=parts: patched_first(
            models, lambda model: _shard(model, parts)
        )
        for parts in ("whole", "blocks", "tail")
    },
    "patch first, nemotron": lambda models: patched_first(
        models, lambda model: _shard(model, "whole"), "nemotron"
    ),
    **{
        f"patch first, FSDP1, {parts}, {original}": lambda models, parts=parts, original=original: (
            patched_first(models, lambda model: _wrap(model, parts, original))
        )
        for parts in ("whole", "blocks")
        for original in (True, False)
    },
    "mixed": mixed,
    "mixed late": mixed_late,
    "refused": refused,
}
