"""Expert parallelism: each process holds some of the experts."""

from __future__ import annotations

from typing import Any

from parallel.comparison import against_one
from parallel.models import Models


def _by_experts(models: Models, **sizes: object) -> dict[str, Any]:
    return against_one(models.load("qwen3_moe"), models.spread("qwen3_moe", ep_size=2, **sizes))


SCENARIOS = {
    "tensor": lambda models: _by_experts(models, tp_plan="auto"),
    "sharded": lambda models: _by_experts(models, fsdp_size=2),
}
