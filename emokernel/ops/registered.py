"""A backend made of registered torch operations.

The kernels are inference only. Where grad mode is on and an argument requires a gradient, or where
an argument has a tangent (forward-mode differentiation), every function of such a backend raises
RuntimeError instead of cutting the graph; what has a gradient is `emokernel.ops.differentiable`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, is_grad_enabled
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from emokernel.ops.backends import Backend
from emokernel.ops.direct import direct
from emokernel.ops.schemas import IN_PLACE, OPERATIONS

_ELSEWHERE = "the kernels are built on Linux only so far; backend='reference' is plain PyTorch"


def load_library(library: Path, build: str) -> str | None:
    """Loads compiled operations; why they cannot run here, or None. ``build`` says how to build."""
    if not library.exists():
        return f"{library.name} is not built: {build if sys.platform == 'linux' else _ELSEWHERE}"
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        why = error.__cause__ or error
        return f"{library.name} does not load with torch {torch.__version__} ({why}): {build}"
    return None


def registered_backend(
    name: str,
    device_types: tuple[str, ...],
    unavailable: Callable[[], str | None],
    namespace: str,
    *,
    fuses_compiled: bool = True,
) -> Backend:
    """The backend ``name`` whose functions are the operations of ``torch.ops.<namespace>``."""
    functions = {}
    for each in OPERATIONS:
        operation = getattr(getattr(torch.ops, namespace), each).default
        general = _without_gradient(name, operation)
        general = _noted(general) if each == IN_PLACE else general
        functions[each] = _short(direct(operation, general), general)
    return Backend(name, device_types, unavailable, namespace, fuses_compiled, **functions)


def _short(quick: Callable, general: Callable) -> Callable:
    """``quick`` where that sees all there is to see, so not in a trace or with tangents."""
    if quick is general:
        return general

    def call(*arguments: object) -> object:
        if is_dynamo_compiling() or forward_ad._current_level >= 0:
            return general(*arguments)
        return quick(*arguments)

    return call


def _without_gradient(backend: str, operation: Callable) -> Callable:
    def call(*arguments: object) -> object:
        if is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments):
            raise RuntimeError(
                f"the {backend} backend has no gradient, and an argument requires one: call"
                " emokernel.ops.differentiable, or use torch.no_grad()"
            )
        if forward_ad._current_level >= 0 and any(
            forward_ad.unpack_dual(a).tangent is not None
            for a in arguments
            if isinstance(a, Tensor) and a.is_floating_point()
        ):
            raise RuntimeError(
                f"the {backend} backend has no forward-mode derivative, and an argument has a"
                " tangent: use backend='reference', or unpatch() the model"
            )
        return operation(*arguments)

    return call


def _noted(operation: Callable) -> Callable:
    """Tells autograd that y and normed have changed, which may have kept them for another graph."""

    def call(y: Tensor, normed: Tensor, *arguments: object) -> None:
        operation(y, normed, *arguments)
        # What torch.compile makes of it notes that by itself; an inference tensor keeps no count.
        if not (torch.compiler.is_compiling() or torch.is_inference_mode_enabled()):
            torch.autograd.graph.increment_version((y, normed))

    return call
