"""Pipeline parallelism of transformers: each process holds some of the blocks."""

from __future__ import annotations

from parallel.models import refusal, vectors

from emokernel import patch

SCENARIOS = {
    "refused": lambda models: {
        "model": refusal(lambda: patch(models.spread(pp_size=2), vectors()))
    },
}
