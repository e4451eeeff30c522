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
from functools import cache, partial

import torch
from torch import Tensor

from emokernel.ops.checks import Call, check, row_stride
from emokernel.ops.launch_shape import MAX_D, launch_shape
from emokernel.ops.registered import registered_backend
from emokernel.ops.schemas import OPERATIONS, TRITON_NAMESPACE

OLDEST_TRITON = (3, 6)
INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")
_NORMS = {"add_steer_rms_norm": 1, "add_steer_layer_norm": 2}  # as in triton_kernels
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
        target = triton.runtime.driver.active.get_current_target()
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
def _kernel() -> object:
    reason = unavailable()
    if reason is not None:
        raise RuntimeError(f"the triton backend cannot run here: {reason}")
    from emokernel.ops.triton_kernels import row_kernel

    return row_kernel


@cache
def _settings(
    d: int, dtype: torch.dtype, components: int, norm: int, cast: int
) -> dict[str, object]:
    """The constants and compiler options of a kernel: all that it is compiled for but dtypes."""
    shape = launch_shape(d, dtype)
    settings: dict[str, object] = {
        "D": d,
        "BLOCK": shape.block,
        "VECTOR": shape.vector,
        "PREFETCH": shape.prefetch,
        "K": components,
        "NORM": norm,
        "CAST": cast,
        "WARPS": shape.num_warps,
        "num_warps": shape.num_warps,
        "enable_fp_fusion": False,
    }
    if shape.max_registers is not None:
        settings["maxnreg"] = shape.max_registers
    return settings


def _readable(rows: Tensor | None, vector: int) -> tuple[Tensor | None, int]:
    """Rows and their stride; a copy of them if the kernel's accesses need another alignment."""
    if rows is None:
        return None, 0
    stride = row_stride(rows)
    if vector == 1 or _aligned(rows, stride):
        return rows, stride
    return rows.clone(memory_format=torch.contiguous_format), rows.shape[-1]


def _aligned(rows: Tensor, stride: int) -> bool:
    return (rows.data_ptr() | stride * rows.element_size()) % _ALIGNMENT == 0


def _writable(given: Tensor | None, like: Tensor, vector: int) -> tuple[Tensor, int, Tensor | None]:
    """Rows to write, their stride, and where to copy them afterwards."""
    if given is not None:
        stride = row_stride(given)
        if vector == 1 or _aligned(given, stride):
            return given, stride, None
    fresh = torch.empty_like(like, memory_format=torch.contiguous_format)
    return fresh, like.shape[-1], given


def _run(call: Call, norm: int) -> tuple[Tensor | None, Tensor]:
    """Checks a call and launches its kernel; (normed, y), fresh unless they were given."""
    check(call, MAX_D)
    x = call.x
    d = x.shape[-1]
    rows = x.numel() // d
    if x.device.type != "cuda" and not INTERPRETED:
        raise RuntimeError(f"{call.name}: {call.first} is on {x.device}; it needs to be on a GPU")
    if rows > _MAX_ROWS:
        raise RuntimeError(f"{call.name}: {call.first} has {rows} rows; up to {_MAX_ROWS} can run")
    settings = _settings(d, x.dtype, call.ids.shape[1], norm, call.cast)
    vector = settings["VECTOR"]
    y, y_stride, y_copy = _writable(call.y, x, vector)
    normed, normed_stride, normed_copy = (
        _writable(call.normed, x, vector) if norm else (None, 0, None)
    )
    if rows > 0:
        x, x_stride = _readable(x, vector)
        residual, residual_stride = _readable(call.residual, vector)
        weight, _ = _readable(call.weight, vector)
        bias, _ = _readable(call.bias, vector)
        basis, basis_stride = _readable(call.basis, vector)
        token_slot, ids, weights, law = call.token_slot, call.ids, call.weights, call.law
        launch(
            rows,
            x, residual, y, normed, weight, bias, basis, token_slot, ids, weights, law,
            x_stride, residual_stride, y_stride, normed_stride, basis_stride,
            token_slot.stride(0), ids.stride(0), weights.stride(0), law.stride(0),
            basis.shape[0], ids.shape[0], call.eps,
            **settings,
        )  # fmt: skip
    if y_copy is not None:
        y_copy.copy_(y)
    if normed_copy is not None:
        normed_copy.copy_(normed)
    return normed, y


def launch(rows: int, *arguments: object, **settings: object) -> None:
    """Runs the kernel for ``rows`` rows on the device of the first argument."""
    x: Tensor = arguments[0]
    if x.is_cuda and x.get_device() != torch.cuda.current_device():
        with torch.cuda.device(x.device):
            _kernel()[(rows,)](*arguments, **settings)
    else:
        _kernel()[(rows,)](*arguments, **settings)


def _call(operation: str, name: str, arguments: tuple) -> Call:
    """The arguments of a call, which its schema (`emokernel.ops.schemas`) orders."""
    name = f"{TRITON_NAMESPACE}::{name}"
    x, *before, basis, token_slot, ids, weights, law = arguments
    tables = (basis, token_slot, ids, weights, law)
    if operation == "steer":
        return Call(name, x, None, None, None, 0.0, 0, *tables)
    if operation == "add_steer":
        return Call(name, x, before[0], None, None, 0.0, 0, *tables)
    if operation == "add_steer_rms_norm":
        residual, weight, eps, cast = before
        return Call(name, x, residual, weight, None, eps, cast, *tables)
    residual, weight, bias, eps = before
    return Call(name, x, residual, weight, bias, eps, 0, *tables)


def functional(operation: str, *arguments: object) -> Tensor | tuple[Tensor, Tensor]:
    """The operation into fresh tensors: y, or (normed, y)."""
    norm = _NORMS.get(operation, 0)
    normed, y = _run(_call(operation, operation, arguments), norm)
    return (normed, y) if norm else y


def in_place(operation: str, *arguments: object) -> Tensor | None:
    """The operation with y over its first argument; returns normed where there is one."""
    call = _call(operation, f"{operation}_", arguments)
    call.y, call.in_place = call.x, True
    normed, _ = _run(call, _NORMS.get(operation, 0))
    return normed


def out(
    operation: str,
    *arguments: object,
    out: Tensor | None = None,
    normed: Tensor | None = None,
    y: Tensor | None = None,
) -> None:
    """The operation into given tensors: ``out``, or ``normed`` and ``y``."""
    call = _call(operation, f"{operation}_out", arguments)
    call.y, call.normed = (y, normed) if out is None else (out, None)
    _run(call, _NORMS.get(operation, 0))


def _register() -> torch.library.Library:
    library = torch.library.Library(TRITON_NAMESPACE, "IMPL")
    forms: tuple[tuple[str, Callable], ...] = (("", functional), ("_", in_place), ("_out", out))
    for key in ("CUDA", "CPU") if INTERPRETED else ("CUDA",):
        for operation in OPERATIONS:
            for suffix, form in forms:
                library.impl(f"{operation}{suffix}", partial(form, operation), key)
    return library


# The object owns the registrations: they vanish with it.
_library = _register()
BACKEND = registered_backend(
    "triton", ("cpu",) if INTERPRETED else ("cuda",), unavailable, TRITON_NAMESPACE
)
