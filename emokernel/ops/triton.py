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
from emokernel.ops.registered import registered_backend
from emokernel.ops.schemas import IN_PLACE, SCHEMAS, TRITON_NAMESPACE

OLDEST_TRITON = (3, 6)
INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")
_ALIGNMENT = 16  # of an access that moves many elements
_MAX_ROWS = 2**31 - 1  # of a CUDA grid
_WARP = 32
# Two vectors of 8 halves, or four of 4 floats, of each operand: a thread then needs 60 to 90
# registers, so that 600 to 1000 threads share a multiprocessor and keep 40 KB or more in flight.
_ELEMENTS_PER_THREAD = 16
# 32 warps would leave a thread 64 registers even where it holds no more than 16 elements.
_MAX_WARPS = 16
# A multiprocessor has 65536 registers. Of programs of 512 threads it runs two at a time, one that
# loads while the other sums, only if a thread needs no more than this.
_REGISTERS_OF_16_WARPS = 64
# Few enough that the parameters of a norm can wait in registers while the row is summed.
_PREFETCH_WARPS, _PREFETCH_BYTES_PER_THREAD = 8, 32


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


@cache
def launch_shape(d: int, dtype: torch.dtype) -> dict[str, int | bool]:
    """The settings of a kernel for rows ``[..., d]``, 1 <= d <= MAX_D, on every architecture.

    They never depend on how many rows there are: they decide the order in which a row is summed,
    and a row has to have the same bits in every batch.

    BLOCK is the row padded to a power of two. VECTOR is how many elements one access moves: 16
    bytes, and then every row has to start on 16 bytes, or 1, and then rows may start anywhere.
    PREFETCH: whether the parameters of a norm are loaded before the sums that do not need them.
    """
    block = 1 << (d - 1).bit_length()
    warps = min(max(block // (_WARP * _ELEMENTS_PER_THREAD), 1), _MAX_WARPS)
    vector = _ALIGNMENT // dtype.itemsize
    elements = block // (warps * _WARP)
    few_bytes = elements * dtype.itemsize <= _PREFETCH_BYTES_PER_THREAD
    settings: dict[str, int | bool] = {
        "D": d,
        "BLOCK": block,
        "VECTOR": vector if d % vector == 0 else 1,
        "PREFETCH": warps <= _PREFETCH_WARPS and few_bytes,
        "WARPS": warps,
        "num_warps": warps,
        "enable_fp_fusion": False,
    }
    if warps == _MAX_WARPS and elements <= _ELEMENTS_PER_THREAD:
        settings["maxnreg"] = _REGISTERS_OF_16_WARPS
    return settings


def _readable(rows: Tensor, vector: int) -> tuple[Tensor, int]:
    """Rows and their stride; a copy of them if the kernel's accesses need another alignment."""
    stride = row_stride(rows)
    if stride is not None and (
        vector == 1 or (rows.data_ptr() | stride * rows.element_size()) % _ALIGNMENT == 0
    ):
        return rows, stride
    return rows.clone(memory_format=torch.contiguous_format), rows.shape[-1]


def _run(call: Call) -> Tensor | tuple[Tensor, Tensor] | None:
    """Launches the kernel; fresh outputs, which are returned, where none are given."""
    check(call)
    x, y, normed = call.x, call.y, call.normed
    d = x.shape[-1]
    rows = x.numel() // d
    if x.device.type != "cuda" and not INTERPRETED:
        raise call.refusal(call.first, f"is on {x.device}; it needs to be on a GPU")
    if rows > _MAX_ROWS:
        raise call.refusal(call.first, f"has {rows} rows; up to {_MAX_ROWS} can run")
    norm = 0 if call.weight is None else 1 if call.bias is None else 2  # as in triton_kernels
    settings = {
        **launch_shape(d, x.dtype),
        "K": call.ids.shape[1],
        "NORM": norm,
        "CAST": call.cast,
        "IN_PLACE": call.in_place,
    }
    vector = settings["VECTOR"]
    for argument, output in (("y", y), ("normed", normed)):
        if output is not None and vector > 1 and output.data_ptr() % _ALIGNMENT:
            raise call.refusal(argument, f"needs to begin on a multiple of {_ALIGNMENT} bytes")
    if y is None:
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        normed = torch.empty_like(y) if norm else None
    if rows > 0:
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
    if call.y is not None:
        return None
    return y if normed is None else (normed, y)


def launch(rows: int, x: Tensor, *arguments: object, **settings: int | bool) -> None:
    """Runs the kernel for ``rows`` rows on the device of x."""
    if x.is_cuda and x.get_device() != torch.cuda.current_device():
        with torch.cuda.device(x.device):
            _kernel()[(rows,)](x, *arguments, **settings)
    else:
        _kernel()[(rows,)](x, *arguments, **settings)


# What stands before the tables in the schemas.
_ROWS = {
    "steer": ("x",),
    "add_steer": ("x", "residual"),
    "add_steer_rms_norm": ("x", "residual", "weight", "eps", "cast"),
    "add_steer_layer_norm": ("x", "residual", "weight", "bias", "eps"),
    "steer_rms_norm_": ("x", "normed", "weight", "eps", "cast"),
}
_TABLES = ("basis", "token_slot", "ids", "weights", "law")


def _operation(name: str) -> Callable:
    names = (*_ROWS[name.removesuffix("_out")], *_TABLES)

    def run(*arguments: Any, **outputs: Any) -> object:
        given = dict(zip(names, arguments, strict=True))
        if name == IN_PLACE:
            given |= {"y": given["x"], "in_place": True}
        return _run(Call(f"{TRITON_NAMESPACE}::{name}", **given, **outputs))

    return run


OPERATIONS = {name: _operation(name) for name in (each.partition("(")[0] for each in SCHEMAS)}
# The object owns the registrations: they vanish with it.
_library = torch.library.Library(TRITON_NAMESPACE, "IMPL")
for _key in ("CUDA", "CPU") if INTERPRETED else ("CUDA",):
    for _name, _run_operation in OPERATIONS.items():
        _library.impl(_name, _run_operation, _key)
BACKEND = registered_backend(
    "triton", ("cpu",) if INTERPRETED else ("cuda",), unavailable, TRITON_NAMESPACE
)
