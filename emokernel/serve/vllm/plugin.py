"""What the plugin of vLLM puts in place: the engine with vectors that have names, and HTTP."""

from __future__ import annotations

import sys

from emokernel.engines.vllm import hooks
from emokernel.serve.vllm.named import load


def install() -> None:
    """Put everything in place; once, whatever the number of calls."""
    hooks.install(load)
    if "vllm.entrypoints.launchers.app" in sys.modules:
        from emokernel.serve.vllm import http

        http.install(load)
