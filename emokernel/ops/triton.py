"""The triton backend: the row kernel of `triton_kernels`, on `torch.ops.emokernel_triton.*`.

It serves CUDA tensors, and CPU tensors where the process runs with ``TRITON_INTERPRET=1`` (slow;
for tests). Triton is imported with the first call, and not at all where it is not installed.

The first call of an operation for a width, a dtype, a number of components (and a cast) compiles
its kernel; what lies in the tensors, how many rows, slots and vectors there are and where they lie
never compiles again. A CUDA graph can capture any call whose kernel a call before it compiled.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from emokernel.ops.checks import Call, check, row_stride
from emokernel.ops.launch_shape import launch_shape
from emokernel.ops.registered import registered_backend
from emokernel.ops.schemas import TRITON_NAMESPACE

OLDEST_TRITON = (3, 6)
INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")
_ALIGNMENT = 16
_MAX_ROWS = 2**31 - 1  # of a CUDA grid


def _installed() -> bool:
    try:
        return importlib.util.find_spec("triton") is not None
    except ImportError:
        return False


@cache
def unavailable() -> str | None:
    """Why the backend cannot run here, or None."""
    if not _installed():
        return "triton is not installed: pip install 'emokernel[triton]'"
    import triton

    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST_TRITON:
        oldest = ".".join(map(str, OLDEST_TRITON))
        return f"triton {triton.__version__} is too old: it needs {oldest} or newer"
    if INTERPRETED:
        return None
    try:
        driver: Any = triton.runtime.driver.active
        target = driver.get_current_target()
    except Exception as error:  # whatever a driver that does not work raises
        return f"triton finds no GPU driver: {str(error).splitlines()[0]}"
    if target.backend != "cuda":
        return f"it is for NVIDIA GPUs; this one is of the kind {target.backend!r}"
    return None


def describe() -> dict[str, object]:
    """What runs: why it cannot, or None; and, where triton is installed, which and how."""
    reason = unavailable()
    if not _installed():
        return {"unavailable": reason}
    import triton

    return {"unavailable": reason, "triton": triton.__version__, "interpreted": INTERPRETED}


@cache
def _kernel() -> Any:
    reason = unavailable()
    if reason is not None:
        raise RuntimeError(f"the triton backend cannot run here: {reason}")
    from emokernel.ops.triton_kernels import row_kernel

    return row_kernel


def _readable(rows: Tensor, vector: int) -> tuple[Tensor, int]:
    """Rows and their stride; a copy of them if the kernel's accesses need another alignment."""
    stride = row_stride(rows)
    if stride is not None and (
        vector == 1 or (rows.data_ptr() | stride * rows.element_size()) % _ALIGNMENT == 0
    ):
        return rows, stride
    return rows.clone(memory_format=torch.contiguous_format), rows.shape[-1]


def _run(call: Call, y: Tensor, normed: Tensor | None) -> None:
    """Launches the kernel of a checked call into contiguous outputs."""
    x = call.x
    d = x.shape[-1]
    rows = x.numel() // d
    if x.device.type != "cuda" and not INTERPRETED:
        raise call.refusal(call.first, f"is on {x.device}; it needs to be on a GPU")
    if rows > _MAX_ROWS:
        raise call.refusal(call.first, f"has {rows} rows; up to {_MAX_ROWS} can run")
    norm = 0 if call.weight is None else 1 if call.bias is None else 2  # as in triton_kernels
    settings = {**launch_shape(d, x.dtype), "K": call.ids.shape[1], "NORM": norm, "CAST": call.cast}
    vector = settings["VECTOR"]
    for argument, output in (("y", y), ("normed", normed)):
        if output is not None and vector > 1 and output.data_ptr() % _ALIGNMENT:
            raise call.refusal(argument, f"needs to begin on a multiple of {_ALIGNMENT} bytes")
    if rows == 0:
        return
    x, x_stride = _readable(x, vector)
    basis, basis_stride = _readable(call.basis, vector)
    (residual, residual_stride), (weight, _), (bias, _) = (
        (None, 0) if each is None else _readable(each, vector)
        for each in (call.residual, call.weight, call.bias)
    )
    token_slot, ids, weights, law = call.token_slot, call.ids, call.weights, call.law
    launch(
        rows,
        x, residual, y, normed, weight, bias, basis, token_slot, ids, weights, law,
        x_stride, residual_stride, basis_stride,
        token_slot.stride(0), ids.stride(0), weights.stride(0), law.stride(0),
        len(call.basis), len(ids), call.eps,
        **settings,
    )  # fmt: skip


def launch(rows: int, x: Tensor, *arguments: object, **settings: int | bool) -> None:
    """Runs the kernel for ``rows`` rows on the device of x."""
    if x.is_cuda and x.get_device() != torch.cuda.current_device():
        with torch.cuda.device(x.device):
            _kernel()[(rows,)](x, *arguments, **settings)
    else:
        _kernel()[(rows,)](x, *arguments, **settings)


def _fresh(like: Tensor) -> Tensor:
    return torch.empty_like(like, memory_format=torch.contiguous_format)


def _steered(call: Call) -> Tensor:
    check(call)
    y = _fresh(call.x)
    _run(call, y, None)
    return y


def _normed(call: Call) -> tuple[Tensor, Tensor]:
    check(call)
    normed = _fresh(call.x) if call.normed is None else call.normed
    y = _fresh(call.x) if call.y is None else call.y
    _run(call, y, normed)
    return normed, y


def steer(h: Tensor, *tables: Tensor) -> Tensor:
    """As `emokernel.reference.steer`; so the others."""
    return _steered(Call(f"{TRITON_NAMESPACE}::steer", h, *tables))


def add_steer(x: Tensor, residual: Tensor, *tables: Tensor) -> Tensor:
    return _steered(Call(f"{TRITON_NAMESPACE}::add_steer", x, *tables, residual=residual))


def add_steer_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, cast: int, *tables: Tensor,
    normed: Tensor | None = None, y: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(normed, y), into the given ones where they are given."""
    name = f"{TRITON_NAMESPACE}::add_steer_rms_norm"
    norm = {"weight": weight, "eps": eps, "cast": cast}
    return _normed(Call(name, x, *tables, residual=residual, normed=normed, y=y, **norm))


def add_steer_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, *tables: Tensor,
    normed: Tensor | None = None, y: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    name = f"{TRITON_NAMESPACE}::add_steer_layer_norm"
    norm = {"weight": weight, "bias": bias, "eps": eps}
    return _normed(Call(name, x, *tables, residual=residual, normed=normed, y=y, **norm))


def _into_given(operation: Callable[..., object]) -> Callable[..., None]:
    def run(*arguments: object, **given: Tensor) -> None:
        operation(*arguments, **given)

    return run


def _register() -> torch.library.Library:
    library = torch.library.Library(TRITON_NAMESPACE, "IMPL")
    for key in ("CUDA", "CPU") if INTERPRETED else ("CUDA",):
        for operation in (steer, add_steer, add_steer_rms_norm, add_steer_layer_norm):
            library.impl(operation.__name__, operation, key)
        for operation in (add_steer_rms_norm, add_steer_layer_norm):
            library.impl(f"{operation.__name__}_out", _into_given(operation), key)
    return library


# The object owns the registrations: they vanish with it.
_library = _register()
BACKEND = registered_backend(
    "triton", ("cpu",) if INTERPRETED else ("cuda",), unavailable, TRITON_NAMESPACE
)
