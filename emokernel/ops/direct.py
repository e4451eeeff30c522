"""The short way from Python to an operation, where there is one.

torch reads the arguments of an operation from elsewhere by a general parser, which takes more than
half of a small call. `emokernel._direct` reads exact tensors, floats and ints itself and goes on to
the same dispatcher. Because it looks into Python's tensors it serves only the torch that it was
built with; all else is in a library that serves every torch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


def _load() -> tuple[Callable | None, str | None]:
    """(`emokernel._direct.direct`, None), or (None, why it cannot be used here)."""
    try:
        from emokernel import _build_info
    except ImportError as error:
        return None, f"the compiled part is not complete ({error})"
    # An older build does not tell the latter.
    built = (_build_info.torch_built_with, getattr(_build_info, "torch_git", None))
    # Looked at first: with another torch, loading it may do anything.
    if built != (torch.__version__, torch.version.git_version):
        return None, f"built with torch {built[0]}, this is {torch.__version__}: build again"
    try:
        from emokernel import _direct
    except ImportError as error:
        return None, f"the compiled part is not complete ({error})"
    return _direct.direct, None


_DIRECT, REASON = _load()


def direct(operation: torch._ops.OpOverload, general: Callable) -> Callable:
    """``operation`` by the short way, or ``general``, which takes the same arguments.

    ``general`` also gets every call with an argument that is no exact Tensor, Parameter, float or
    int, with one that requires a gradient in grad mode, and under a mode of ``__torch_function__``,
    such as that of a default device.
    """
    return general if _DIRECT is None else _DIRECT(operation.name(), general)
