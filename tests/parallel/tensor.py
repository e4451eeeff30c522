"""Tensor parallelism: the plans of transformers and those of torch."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.distributed as dist
from parallel.comparison import ALL, SOME, against_one
from parallel.models import REQUESTS, Collectives, Models, batch, logits, refusal, vectors
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Partial
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from transformers import PreTrainedModel

from emokernel import patch


def by_plan(models: Models, family: str, how: tuple[tuple[str, bool], ...] = SOME) -> dict:
    """With the plan that transformers has for the family."""
    return against_one(models.load(family), models.spread(family, tp_plan="auto"), how)


def in_bf16(models: Models) -> dict[str, Any]:
    """Rows, weights and what is communicated in bf16."""
    return against_one(
        models.load().to(torch.bfloat16), models.spread(tp_plan="auto").to(torch.bfloat16)
    )


def by_argument(models: Models) -> dict[str, Any]:
    """``tp_plan`` as most write it, which transformers deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = models.load(tp_plan="auto")
    patch(model, vectors()).set("joy", 1.0)
    return {"set": logits(model)}


def by_torch(models: Models, **attention: object) -> PreTrainedModel:
    """With torch's own styles; ``attention``: those of what the attention branch returns."""
    model = models.load()
    model.set_attn_implementation("eager")
    plan = {f"self_attn.{name}_proj": ColwiseParallel() for name in "qkv"}
    plan |= {f"mlp.{name}_proj": ColwiseParallel() for name in ("gate", "up")}
    plan |= {
        "self_attn.o_proj": RowwiseParallel(**attention),
        "mlp.down_proj": RowwiseParallel(),
    }
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for block in model.model.layers:
        parallelize_module(block, mesh, plan)
    return model


def communication(models: Models) -> dict[str, list[str]]:
    """What the processes say to each other in one forward, and in a short generation."""
    model = models.spread(tp_plan="auto")
    found = {}

    def note(name: str) -> None:
        for act, run in {
            "forward": lambda: logits(model),
            "generate": lambda: model.generate(**batch(), max_new_tokens=3, do_sample=False),
        }.items():
            with Collectives() as collectives:
                run()
            found[f"{name} {act}"] = collectives.seen

    note("unpatched")
    for fuse in (True, False):
        steering = patch(model, vectors(), fuse_norm=fuse)
        note(f"off {fuse}")
        steering.set("joy", 2.0)
        note(f"set {fuse}")
        with steering.requests(REQUESTS):
            note(f"requests {fuse}")
        steering.unpatch()
    return found


def refused(models: Models) -> dict[str, str]:
    """What a plan must not do."""
    partial = by_torch(models, output_layouts=Partial())
    sequence = by_torch(models)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    parallelize_module(sequence, mesh, {"model.layers.*.input_layernorm": SequenceParallel()})
    differs = models.spread(tp_plan="auto")
    found = {
        "partial": refusal(lambda: patch(partial, vectors())),
        "sequence": refusal(lambda: patch(sequence, vectors())),
    }
    chosen = vectors(scale=0.2 + 0.1 * dist.get_rank())
    found["other vectors"] = refusal(lambda: patch(differs, chosen))
    found["other options"] = refusal(
        lambda: patch(differs, vectors(), fuse_norm=dist.get_rank() == 0)
    )
    first = dist.get_rank() == 0
    site = "attention" if first else "block"
    found["other site"] = refusal(lambda: patch(differs, vectors(), site=site))
    layers = [1, 2] if first else [0, 1, 2]  # whose sums are the same
    found["other layers"] = refusal(lambda: patch(differs, vectors(), layers=layers))
    # Nothing is left of what was refused.
    found["afterwards"] = refusal(lambda: patch(differs, vectors()))
    return found


SCENARIOS = {
    "llama": lambda models: by_plan(models, "llama", ALL),
    "gemma2": lambda models: by_plan(models, "gemma2"),
    "qwen3_moe": lambda models: by_plan(models, "qwen3_moe"),
    "bf16": in_bf16,
    "argument": by_argument,
    "torch": lambda models: against_one(models.load(), by_torch(models)),
    "communication": communication,
    "refused": refused,
}
