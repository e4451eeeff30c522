"""Expert parallelism: each process holds some of the experts."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from parallel.comparison import against_one
from parallel.models import Models
from transformers.distributed.configuration_utils import DistributedConfig

# Newer transformers name how many processes share the experts, and combine this with FSDP.
SIZED = "ep_size" in {field.name for field in fields(DistributedConfig)}


def _by_experts(models: Models, **sizes: object) -> dict[str, Any]:
    split = {"ep_size": 2} if SIZED else {"enable_expert_parallel": True}
    return against_one(models.load("qwen3_moe"), models.spread("qwen3_moe", **split, **sizes))


SCENARIOS = {"tensor": lambda models: _by_experts(models, tp_plan="auto")}
if SIZED:
    SCENARIOS["sharded"] = lambda models: _by_experts(models, fsdp_size=2)
