"""Forwards that torch.compile compiled or a CUDA graph replays: no Python decides their rows."""

from emokernel.engines.compiled.engine import CompiledForwards

__all__ = ["CompiledForwards"]
