"""Models spread over processes or devices: what a patch cannot serve is refused by its name.

Tensor, expert and data parallelism and FSDP need nothing of their own: their processes hold whole
rows at every residual add, and each steers them itself. What could break that is checked here.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from emokernel.errors import ModelStructureError, SteeringError
from emokernel.patch.decoder import PROBE_TOKENS
from emokernel.patch.observe import Observation
from emokernel.replaced import ReplacedMethod

# Of the norm of what is compared: devices of different kinds may sum in different orders.
_ALIKE = 1e-2


def check_wrappers(model: nn.Module) -> None:
    """ModelStructureError for a wrapper that hides the model or its weights."""
    if not isinstance(model, nn.Module):  # nothing that wraps one
        return
    kind = type(model).__name__
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ModelStructureError(
            f"{kind} only wraps the language model: patch what is inside, patch(model.module, ...)"
        )
    if any(getattr(parameter, "_fsdp_flattened", False) for parameter in model.parameters()):
        raise ModelStructureError(
            f"FullyShardedDataParallel has flattened the weights of {kind}: patch the model before"
            " it is wrapped, or shard it with fully_shard (FSDP2)"
        )
    if getattr(model, "_pp_stage", None) is not None:
        raise ModelStructureError(
            f"{kind} is split by pipeline parallelism (pp_size), so this process has only some of"
            ' its blocks: use device_map="auto" or tensor parallelism (tp_plan="auto")'
        )


def check_norms(model: nn.Module, hidden_size: int) -> None:
    """ModelStructureError for norms of rows that run under sequence parallelism."""
    for name, module in model.named_modules():
        if _is_sequence_parallel(module, hidden_size):
            raise ModelStructureError(
                f"{name} of {type(model).__name__} runs under sequence parallelism, where a process"
                ' has some of the tokens only: use a plan without it, such as tp_plan="auto"'
            )


def check_rows(model: nn.Module, stream: Tensor) -> None:
    """ModelStructureError unless ``stream`` ``[1, tokens, d]`` holds every token, in plain rows."""
    kind = type(model).__name__
    if type(stream) is not Tensor:
        raise ModelStructureError(
            f"the residual stream of {kind} is a {type(stream).__name__}, spread over processes:"
            " let the layers return plain tensors (use_local_output=True), reduced"
        )
    if stream.shape[1] < PROBE_TOKENS:
        raise ModelStructureError(
            f"the blocks of {kind} get {stream.shape[1]} of {PROBE_TOKENS} tokens (sequence"
            ' parallelism?): let every process have them all, as tp_plan="auto" does'
        )


def check_alike(model: nn.Module, observed: Observation, chosen: Tensor) -> None:
    """ModelStructureError unless the processes that share ``model`` hold the same rows.

    At every add of ``observed``: a row that is a partial sum would be steered once in each process.
    ``chosen`` (any numbers that describe the patch) must be the same as well, else SteeringError.
    Collective: it communicates with every process that holds a part of the weights.
    """
    for group in _groups(model):
        stream = observed.blocks[0].result.tensor
        low, high = _extremes(chosen.to(stream.device), group)
        if not torch.allclose(low, high, rtol=1e-4):
            raise SteeringError(
                "the processes that share this model patch it in different ways: give every one the"
                " same vectors and options"
            )
        for index, run in observed.blocks.items():
            seen = (*(addition.result for addition in run.additions), run.result)
            ranges = [_extremes(each.tensor, group) for each in seen]
            if any((high - low).norm() > _ALIKE * high.norm() for low, high in ranges):
                raise ModelStructureError(
                    f"block {index} of {type(model).__name__} holds other rows in every process"
                    " (an unreduced partial sum?): reduce what each branch returns, as"
                    ' tp_plan="auto" does'
                )


def _is_sequence_parallel(module: nn.Module, hidden_size: int) -> bool:
    """Whether it holds weights ``[hidden_size]`` alone, each a DTensor that is whole everywhere.

    So the styles of torch and transformers leave a norm. FSDP shards such weights.
    """
    held = [parameter for parameter in module._parameters.values() if parameter is not None]
    placements = [getattr(parameter, "placements", None) for parameter in held]
    return bool(held) and all(
        parameter.shape == (hidden_size,) and placed and all(p.is_replicate() for p in placed)
        for parameter, placed in zip(held, placements, strict=True)
    )


def _groups(model: nn.Module) -> list[dist.ProcessGroup]:
    """The groups of processes, of more than one, over which parameters are spread."""
    if "torch.distributed.tensor" not in sys.modules:  # nothing is spread, and it is slow to import
        return []
    from torch.distributed.tensor import DTensor

    meshes = dict.fromkeys(p.device_mesh for p in model.parameters() if isinstance(p, DTensor))
    groups = (mesh.get_group(axis) for mesh in meshes for axis in range(mesh.ndim))
    return [group for group in dict.fromkeys(groups) if dist.get_world_size(group) > 1]


def _extremes(values: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """The least and the greatest of each value over the processes of ``group``."""
    low, high = (values.detach().float().clone() for _ in range(2))
    dist.all_reduce(low, dist.ReduceOp.MIN, group)
    dist.all_reduce(high, dist.ReduceOp.MAX, group)
    return low, high


class NoReplica(ReplacedMethod):
    """Stands in the way of `nn.DataParallel`, and nobody wraps it: it has the model's ``patched``.

    Replicas keep the attributes of the module, so they would run the replaced forwards, and
    with these the weights, of the model that was patched.
    """

    def __init__(self, owner: nn.Module, patched: Any) -> None:
        super().__init__(owner, "_replicate_for_data_parallel")
        self.patched = patched

    def __call__(self) -> NoReturn:
        raise SteeringError(
            "nn.DataParallel cannot copy a patched model to several devices: use"
            " DistributedDataParallel, or unpatch() first"
        )
