"""What a patch cannot serve is refused by its name, with what to do.

Tensor, expert and data parallelism and FSDP need nothing of their own: their processes hold whole
rows at every residual add, and each steers them itself. What could break that is checked here too.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn

from emokernel.errors import ModelStructureError, SteeringError
from emokernel.patch.decoder import PROBE_TOKENS, Decoder, find_generator, streams_of
from emokernel.patch.observe import Observation
from emokernel.patch.placed import STREAM_DTYPES
from emokernel.replaced import has_replaced, is_replaced

# Of the norm of what is compared: devices of different kinds may sum in different orders.
_ALIKE = 1e-2
# A fused norm differs from the module's by the order of one sum; a wrong one by far more.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


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


def check_model(model: nn.Module, decoder: Decoder, vectors: Tensor) -> None:
    """ModelStructureError for a model that is patched or spread in a way that cannot be steered.

    Or one that ``vectors`` ``[L, E, d]`` do not fit.
    """
    for name, module in model.named_modules():
        if _is_sequence_parallel(module, decoder.hidden_size):
            raise ModelStructureError(
                f"{name} of {type(model).__name__} runs under sequence parallelism, where a process"
                ' has some of the tokens only: use a plan without it, such as tp_plan="auto"'
            )
    _check_vectors(model, decoder, vectors)
    if any(has_replaced(module) for module in model.modules()):
        raise ModelStructureError(
            "this model is patched already: call unpatch() on its Steering first"
        )
    for module in (decoder.owner, *decoder.blocks):
        if is_replaced(module):
            raise ModelStructureError(
                f"something else replaced the forward of {type(module).__name__}: remove it first"
            )


def check_run(model: nn.Module, decoder: Decoder, observed: Observation, chosen: Tensor) -> None:
    """ModelStructureError for a model whose rows cannot be steered one by one, or are not causal.

    ``chosen`` (any numbers that describe the patch) must be the same in every process that shares
    the model, else SteeringError.
    """
    _check_streams(model, decoder, observed)
    _check_alike(model, observed, chosen)
    _check_causal(model, decoder, observed)


def _check_vectors(model: nn.Module, decoder: Decoder, vectors: Tensor) -> None:
    blocks, hidden_size = len(decoder.blocks), decoder.hidden_size
    layers, _, width = vectors.shape
    if (layers, width) == (blocks, hidden_size):
        return
    advice = "extract vectors from this model"
    if width == hidden_size and layers == blocks + 1:
        advice = (
            "if row 0 is that of the embeddings, as in persona vectors, leave it out:"
            " dataclasses.replace(vectors, tensor=vectors.tensor[1:])"
        )
    elif width == hidden_size and layers < blocks:
        advice = (
            "if their file holds some of this model's layers, say how many it has:"
            f" EmotionVectors.load(path, num_layers={blocks}), or emokernel convert with"
            f" --num-layers {blocks}; else {advice}"
        )
    raise ModelStructureError(
        f"these vectors belong to another model: they have {layers} layers of width {width},"
        f" {type(model).__name__} has {blocks} of width {hidden_size}; {advice}"
    )


def _check_streams(model: nn.Module, decoder: Decoder, observed: Observation) -> None:
    """Every block returns one stream ``[1, tokens, d]`` of all tokens, of plain rows."""
    kind = type(model).__name__
    for index, run in observed.blocks.items():
        stream = run.result.tensor
        if stream.dtype not in STREAM_DTYPES:
            raise ModelStructureError(
                f"the residual stream is {stream.dtype}; the kernels know fp32, bf16 and fp16:"
                " cast the model first"
            )
        if stream.dim() != 3 or stream.shape[0] != 1:
            raise ModelStructureError(
                f"{type(decoder.blocks[index]).__name__} carries {list(stream.shape)} for one"
                " sequence, more than one residual stream; such a model cannot be patched"
            )
        if type(stream) is not Tensor:
            raise ModelStructureError(
                f"the residual stream of {kind} is a {type(stream).__name__}, spread over"
                " processes: let the layers return plain tensors (use_local_output=True), reduced"
            )
        if stream.shape[1] < PROBE_TOKENS:
            raise ModelStructureError(
                f"the blocks of {kind} get {stream.shape[1]} of {PROBE_TOKENS} tokens (sequence"
                ' parallelism?): let every process have them all, as tp_plan="auto" does'
            )


def _check_causal(model: nn.Module, decoder: Decoder, observed: Observation) -> None:
    """Where nothing generates, another last token must leave the rows before it as they are.

    A few models that generate read their prompts in both directions.
    """
    if find_generator(model, decoder) is None:
        last = len(decoder.blocks) - 1
        block = decoder.blocks[last]
        rows = streams_of(model, [block], last=PROBE_TOKENS)[block]
        if not are_close(rows[:, :-1], observed.blocks[last].rows[:, :-1], allowance=4.0):
            raise ModelStructureError(
                f"{type(model).__name__} is not causal (what it computes for a token depends on"
                " those that follow): pass a causal language model"
            )


def _check_alike(model: nn.Module, observed: Observation, chosen: Tensor) -> None:
    """The processes that share ``model`` hold the same rows at every add, and patch it alike.

    A row that is a partial sum would be steered once in each process. Collective: it communicates
    with every process that holds a part of the weights.
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


def are_close(after: Tensor, before: Tensor, allowance: float = 1.0) -> bool:
    """Whether rows are the same up to ``allowance`` times what one fused norm may change."""
    if after.shape != before.shape or after.dtype != before.dtype:
        return False
    error = (after.float() - before.float()).norm()
    return bool(error <= allowance * _TOLERANCE[before.dtype] * before.float().norm())
