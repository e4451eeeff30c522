"""Whoever runs forwards of a patched model: `base` says what an engine has to answer.

One folder an engine: `generate` (plain calls and `generate`), `compiled` (torch.compile and CUDA
graphs), `continuous` (transformers' continuous batching). `requested` is what they all read.
"""

from __future__ import annotations

from collections.abc import Callable

from emokernel.engines.base import Engine
from emokernel.engines.compiled import CompiledForwards
from emokernel.engines.continuous import ContinuousBatching
from emokernel.engines.generate import PlainForwards
from emokernel.engines.requested import Requested

MakeEngine = Callable[[Requested], Engine]

# The first that claims a call answers it; the last claims all that are left.
ENGINES: tuple[MakeEngine, ...] = (ContinuousBatching, CompiledForwards, PlainForwards)

__all__ = ["ENGINES", "Engine", "MakeEngine", "Requested"]
