"""The argument checks of backends written in Python, with the messages of csrc/binding/checks.cpp.

A wrong argument is a RuntimeError of one line that names the operation, the argument, what it is
and what it needs, and it comes before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from emokernel.reference import MAX_COMPONENTS, Cast

STREAM_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_LARGEST_EPS = torch.finfo(torch.float32).max


@dataclass(slots=True)
class Call:
    """One call of an operation; ``name`` is the qualified one, for the messages.

    ``residual``, ``weight`` and ``bias`` are None where the operation has none. ``y`` and
    ``normed`` are the outputs that were given; ``in_place`` says that y is x.
    """

    name: str
    x: Tensor
    residual: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    cast: int
    basis: Tensor
    token_slot: Tensor
    ids: Tensor
    weights: Tensor
    law: Tensor
    y: Tensor | None = None
    normed: Tensor | None = None
    in_place: bool = False

    @property
    def first(self) -> str:
        """What the schema calls ``x``."""
        return "h" if self.residual is None else "x"


def row_stride(rows: Tensor) -> int | None:
    """The stride between the rows of ``[..., d]``, leading dimensions collapsed.

    None if there is no such stride, or if the last dimension is not contiguous.
    """
    d = rows.shape[-1]
    if rows.is_contiguous():
        return d
    fits = d == 1 or rows.stride(-1) == 1
    stride, span = d, None  # span: what the stride of the next outer dimension has to be
    for size, step in zip(rows.shape[-2::-1], rows.stride()[-2::-1], strict=True):
        if size == 1:
            continue
        if span is None:
            stride = step
        elif step != span:
            fits = False
        span = step * size
    return stride if fits else None


def check(call: Call, max_d: int) -> None:
    """RuntimeError unless the operation can run; ``max_d`` is the widest row that it takes."""
    if _plainly_fine(call, max_d):
        if call.y is not None and not _plainly_apart(call):
            _check_memory(call)
        return
    _check_inputs(call, max_d)
    for argument, rows in _outputs(call):
        if rows is not call.x:
            _check_rows(call, argument, rows)
    if call.y is not None:
        _check_memory(call)


def _plainly_fine(call: Call, max_d: int) -> bool:
    """Whether a call is the usual one; where it is not, the checks below say what is wrong."""
    x, residual, y, normed = call.x, call.residual, call.y, call.normed
    basis, token_slot, ids, weights, law = (
        call.basis, call.token_slot, call.ids, call.weights, call.law,
    )  # fmt: skip
    dtype, device, shape = x.dtype, x.get_device(), x.shape
    if not (dtype in STREAM_DTYPES and shape and 0 < shape[-1] <= max_d and x.is_contiguous()):
        return False
    for rows in (residual, y, normed):
        if rows is not None and not (
            rows.shape == shape
            and rows.dtype is dtype
            and rows.get_device() == device
            and rows.is_contiguous()
        ):
            return False
    d = shape[-1]
    for parameter in (call.weight, call.bias):
        if parameter is not None and not (
            parameter.shape == (d,)
            and parameter.dtype is dtype
            and parameter.get_device() == device
            and parameter.is_contiguous()
        ):
            return False
    table = ids.shape
    return (
        0.0 <= call.eps <= _LARGEST_EPS
        and 0 <= call.cast < len(Cast)
        and basis.is_contiguous()
        and basis.dim() == 2
        and basis.shape[1] == d
        and (basis.dtype is dtype or basis.dtype is torch.float32)
        and token_slot.dim() == 1
        and token_slot.shape[0] * d >= x.numel()
        and token_slot.dtype is torch.int32
        and len(table) == 2
        and 0 < table[1] <= MAX_COMPONENTS
        and weights.shape == table
        and law.shape == table[:1]
        and ids.stride(1) == 1
        and weights.stride(1) == 1
        and ids.dtype is torch.int32
        and weights.dtype is torch.float32
        and law.dtype is torch.int32
        and device
        == basis.get_device()
        == token_slot.get_device()
        == ids.get_device()
        == weights.get_device()
        == law.get_device()
    )


def _plainly_apart(call: Call) -> bool:
    """Whether the memory of the given outputs is plainly theirs, in a call that is plainly fine."""
    first = call.y.data_ptr()
    extent = call.y.numel() * call.y.element_size()
    last = first + extent
    if call.normed is not None:
        normed = call.normed.data_ptr()
        if first < normed + extent and normed < last:
            return False
        if not _beside(call, normed, normed + extent):
            return False
    return _beside(call, first, last)


def _beside(call: Call, first: int, last: int) -> bool:
    """Whether all that is read, other than an x that is written, lies outside of first to last."""
    x = None if call.in_place else call.x
    for tensor in (x, call.residual, call.weight, call.bias, call.basis):
        if tensor is not None:
            begin = tensor.data_ptr()
            if begin < last and begin + tensor.numel() * tensor.element_size() > first:
                return False
    for table in (call.token_slot, call.ids, call.weights, call.law):
        begin = table.data_ptr()
        # Four bytes an entry; no less than what the entries span.
        if begin < last and begin + 4 * (table.stride(0) * len(table) + table.shape[-1]) > first:
            return False
    return True


def _refuse(call: Call, argument: str, what: str) -> NoReturn:
    raise RuntimeError(f"{call.name}: {argument} {what}")


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _device_name(device: torch.device) -> str:
    return "the CPU" if device.type == "cpu" else str(device)


def _check_device(call: Call, argument: str, tensor: Tensor) -> None:
    if tensor.device != call.x.device:
        _refuse(
            call,
            argument,
            f"is on {_device_name(tensor.device)}; it needs to be on"
            f" {_device_name(call.x.device)} like the rows",
        )


def _check_dtype(call: Call, argument: str, tensor: Tensor, needed: torch.dtype) -> None:
    if tensor.dtype != needed:
        _refuse(call, argument, f"is {_dtype_name(tensor.dtype)}; it needs {_dtype_name(needed)}")


def _check_rows(call: Call, argument: str, rows: Tensor) -> None:
    """Rows beside x, which need its shape, dtype and device."""
    _check_device(call, argument, rows)
    if rows.shape != call.x.shape:
        _refuse(
            call,
            argument,
            f"has shape {list(rows.shape)}; it needs that of {call.first}, {list(call.x.shape)}",
        )
    _check_dtype(call, argument, rows, call.x.dtype)
    _check_stride(call, argument, rows)


def _check_stride(call: Call, argument: str, rows: Tensor) -> None:
    if row_stride(rows) is None and rows.numel() > 0:
        _refuse(
            call,
            argument,
            "has strides that do not make rows of one stride with a contiguous"
            " last dimension; pass it contiguous",
        )


def _check_vector(call: Call, argument: str, tensor: Tensor, count: int, meaning: str) -> None:
    _check_device(call, argument, tensor)
    if tensor.shape != (count,):
        _refuse(call, argument, f"has shape {list(tensor.shape)}; it needs [{count}], {meaning}")


def _check_inputs(call: Call, max_d: int) -> None:
    x, first = call.x, call.first
    if x.dtype not in STREAM_DTYPES:
        _refuse(call, first, f"is {_dtype_name(x.dtype)}; it needs float32, bfloat16 or float16")
    if x.dim() < 1 or x.shape[-1] < 1:
        _refuse(call, first, f"has shape {list(x.shape)}; it needs [..., d] with d at least 1")
    d = x.shape[-1]
    if d > max_d:
        _refuse(call, first, f"has rows of {d}; this backend takes rows of up to {max_d}")
    _check_stride(call, first, x)
    if call.residual is not None:
        _check_rows(call, "residual", call.residual)
    _check_norm(call, d)
    _check_basis(call, d)
    _check_device(call, "token_slot", call.token_slot)
    _check_dtype(call, "token_slot", call.token_slot, torch.int32)
    rows = x.numel() // d
    if call.token_slot.dim() != 1 or call.token_slot.shape[0] < rows:
        _refuse(
            call,
            "token_slot",
            f"has shape {list(call.token_slot.shape)}; it needs one entry"
            f" for each of the {rows} rows",
        )
    _check_slots(call)


def _check_norm(call: Call, d: int) -> None:
    for argument, parameter in (("weight", call.weight), ("bias", call.bias)):
        if parameter is None:
            continue
        _check_vector(call, argument, parameter, d, "one per column")
        _check_dtype(call, argument, parameter, call.x.dtype)
        if not parameter.is_contiguous():
            _refuse(call, argument, "is strided; pass it contiguous")
    if not 0.0 <= call.eps <= _LARGEST_EPS:
        _refuse(call, "eps", f"is {call.eps:f}; it needs to be finite in float32 and not negative")
    if not 0 <= call.cast < len(Cast):
        _refuse(
            call,
            "cast",
            f"is {call.cast}; it needs to be one of 0 to {len(Cast) - 1}"
            " (emokernel.reference.Cast)",
        )


def _check_basis(call: Call, d: int) -> None:
    basis, dtype = call.basis, call.x.dtype
    _check_device(call, "basis", basis)
    if basis.dim() != 2 or basis.shape[1] != d:
        _refuse(call, "basis", f"has shape {list(basis.shape)}; it needs [vectors, {d}]")
    if basis.dtype not in (dtype, torch.float32):
        _refuse(
            call,
            "basis",
            f"is {_dtype_name(basis.dtype)}; it needs float32 or"
            f" {_dtype_name(dtype)}, the dtype of the rows",
        )
    if d > 1 and basis.stride(1) != 1 and basis.shape[0] > 0:
        _refuse(call, "basis", "has a strided last dimension; pass it contiguous")


def _check_slots(call: Call) -> None:
    ids, weights = call.ids, call.weights
    _check_device(call, "ids", ids)
    _check_device(call, "weights", weights)
    _check_dtype(call, "ids", ids, torch.int32)
    _check_dtype(call, "weights", weights, torch.float32)
    _check_dtype(call, "law", call.law, torch.int32)
    if ids.dim() != 2 or not 1 <= ids.shape[1] <= MAX_COMPONENTS:
        _refuse(
            call, "ids", f"has shape {list(ids.shape)}; it needs [slots, 1 to {MAX_COMPONENTS}]"
        )
    if weights.shape != ids.shape:
        _refuse(
            call,
            "weights",
            f"has shape {list(weights.shape)}; it needs that of ids, {list(ids.shape)}",
        )
    _check_vector(call, "law", call.law, ids.shape[0], "one per slot")
    for argument, table in (("ids", ids), ("weights", weights)):
        if table.shape[0] > 0 and table.shape[1] > 1 and table.stride(1) != 1:
            _refuse(call, argument, "has a strided last dimension")


def _outputs(call: Call) -> list[tuple[str, Tensor]]:
    """The given outputs by the names of the schema."""
    if call.y is None:
        return []
    if call.in_place:
        return [(call.first, call.y)]
    if call.weight is None:
        return [("out", call.y)]
    return [("y", call.y), ("normed", call.normed)]


def _check_memory(call: Call) -> None:
    """Refuses an output that shares memory with anything that is read, or with itself."""
    read: list[tuple[str, _Span]] = []
    for argument, tensor in (
        (call.first, None if call.in_place else call.x),
        ("residual", call.residual),
        ("weight", call.weight),
        ("bias", call.bias),
        ("basis", call.basis),
        ("token_slot", call.token_slot[: call.x.numel() // call.x.shape[-1]]),
        ("ids", call.ids),
        ("weights", call.weights),
        ("law", call.law),
    ):
        if tensor is not None:
            read.append((argument, _span(tensor, columns=argument not in ("token_slot", "law"))))
    for argument, output in _outputs(call):
        written = _span(output)
        if written.rows > 1 and written.stride < written.width:
            _refuse(
                call, argument, "has rows that overlap each other; it is written and needs its own"
            )
        for other, span in read:
            if _overlap(written, span):
                _refuse(
                    call,
                    argument,
                    f"shares memory with {other}; it is written and needs memory of its own",
                )
    if call.normed is not None and _overlap(_span(call.y), _span(call.normed)):
        _refuse(call, "normed", "shares memory with y; each output needs memory of its own")


@dataclass(slots=True)
class _Span:
    """The bytes of ``rows`` rows of ``width`` bytes, ``stride`` bytes apart."""

    begin: int
    rows: int
    stride: int
    width: int
    end: int


def _span(tensor: Tensor, columns: bool = True) -> _Span:
    """Where a checked tensor lies; without ``columns`` every element is a row."""
    size = tensor.element_size()
    if not columns:
        rows, stride, width = tensor.shape[0], tensor.stride(0) * size, size
    else:
        width = tensor.shape[-1] * size
        rows = tensor.numel() * size // width if width else 0
        stride = (row_stride(tensor) or 0) * size
    begin = tensor.data_ptr()
    return _Span(begin, rows, stride, width, begin + (rows - 1) * stride + width)


def _overlap(a: _Span, b: _Span) -> bool:
    if a.end <= b.begin or b.end <= a.begin or a.rows == 0 or b.rows == 0:
        return False
    # Rows of one stride may lie side by side, as two halves of a packed tensor do.
    if a.rows == 1 or b.rows == 1 or a.stride != b.stride or a.stride == 0:
        return True
    apart = (b.begin - a.begin) % a.stride
    return apart < a.width or a.stride - apart < b.width
