"""What torch.compile is told while it traces a patched model."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def constant_in_trace(function: Callable) -> Callable:
    """Runs while torch.compile traces, which takes what it returns for a constant.

    As `torch.compiler.assume_constant_result`, which would import the compiler, and Triton, with
    this package.
    """
    vars(function)["_dynamo_marked_constant"] = True
    return function


def keep_in_place(*tensors: Tensor) -> None:
    """Tell torch.compile that these stay where they are: a CUDA graph then reads them in place."""
    import torch._dynamo

    for tensor in tensors:
        torch._dynamo.mark_static_address(tensor)
