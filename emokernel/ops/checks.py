"""The argument checks of the Triton backend, with the messages of csrc/binding/checks.cpp.

What its kernel would not survive, or would silently compute otherwise, is a RuntimeError of one
line that names the operation, the argument, what it is and what it needs, before anything runs.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from emokernel.reference import MAX_COMPONENTS, STREAM_DTYPES, Cast

MAX_D = 16384  # that one block of the kernel holds
_LARGEST_EPS = torch.finfo(torch.float32).max
# What the shape of an argument has to be.
_NEEDS = {
    "residual": "that of x, {x}",
    "normed": "that of {first}, {x}",
    "y": "that of x, {x}",
    "weight": "[{d}], one per column",
    "bias": "[{d}], one per column",
    "basis": "[vectors, {d}]",
    "token_slot": "one entry for each of the {rows} rows",
    "ids": f"[slots, 1 to {MAX_COMPONENTS}]",
    "weights": "that of ids, {ids}",
    "law": "[{slots}], one per slot",
}


@dataclass(slots=True)
class Call:
    """One call of an operation; what it has not, and outputs that are not given, are None.

    ``in_place``: y is x, which is written.
    """

    operation: str  # qualified, for the messages
    x: Tensor  # h for steer, y for steer_rms_norm_
    basis: Tensor
    token_slot: Tensor
    ids: Tensor
    weights: Tensor
    law: Tensor
    _: KW_ONLY
    residual: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    eps: float = 0.0
    cast: int = 0
    normed: Tensor | None = None
    y: Tensor | None = None
    in_place: bool = False

    @property
    def first(self) -> str:
        """What the schema calls ``x``."""
        return "y" if self.in_place else "h" if self.residual is None else "x"

    def refusal(self, argument: str, what: str) -> RuntimeError:
        return RuntimeError(f"{self.operation}: {argument} {what}")


def row_stride(rows: Tensor) -> int | None:
    """The stride between the rows of ``[..., d]``, leading dimensions collapsed.

    None if there is no such stride, or if the last dimension is not contiguous.
    """
    d = rows.shape[-1]
    if rows.is_contiguous():
        return d
    try:
        flat = rows.view(-1, d)
    except RuntimeError:
        return None
    return flat.stride(0) if d == 1 or flat.stride(1) == 1 else None


def _is_plain(call: Call) -> bool:
    """Whether a call is the usual one: all that is below would only say what is wrong with it."""
    x, basis, slot, ids, weights = call.x, call.basis, call.token_slot, call.ids, call.weights
    dtype, device, shape, table = x.dtype, x.get_device(), x.shape, ids.shape
    d = shape[-1] if shape else 0
    for gain in (call.weight, call.bias):
        if gain is not None and not (
            gain.dtype is dtype
            and gain.shape == (d,)
            and gain.is_contiguous()
            and gain.get_device() == device
        ):
            return False
    # Rows beside x, in place those that are written too, whose memory is looked at afterwards.
    beside = call.normed if call.in_place else call.residual
    residual = x if beside is None else beside
    return (
        (call.y is None or call.in_place)
        and dtype in STREAM_DTYPES
        and 0 < d <= MAX_D
        and x.is_contiguous()
        and residual.shape == shape
        and residual.dtype is dtype
        and residual.is_contiguous()
        and 0.0 <= call.eps <= _LARGEST_EPS
        and 0 <= call.cast < len(Cast)
        and basis.dim() == 2
        and basis.shape[1] == d
        and (basis.dtype is dtype or basis.dtype is torch.float32)
        and basis.is_contiguous()
        and slot.dim() == 1
        and len(slot) * d >= x.numel()
        and slot.dtype is ids.dtype is call.law.dtype is torch.int32
        and weights.dtype is torch.float32
        and len(table) == 2
        and 0 < table[1] <= MAX_COMPONENTS
        and weights.shape == table
        and call.law.shape == table[:1]
        and ids.stride(1) == weights.stride(1) == 1
        and device
        == residual.get_device()
        == basis.get_device()
        == slot.get_device()
        == ids.get_device()
        == weights.get_device()
        == call.law.get_device()
    )


def check(call: Call) -> None:
    """RuntimeError unless the kernel can run."""
    if not _is_plain(call):
        _look_at_each(call)
    if call.y is not None and call.normed is not None:
        _check_memory(call, call.y, call.normed)


def _look_at_each(call: Call) -> None:
    x, first, ids = call.x, call.first, call.ids
    if x.dtype not in STREAM_DTYPES:
        raise call.refusal(first, f"is {_name(x)}; it needs float32, bfloat16 or float16")
    if x.dim() < 1 or x.shape[-1] < 1:
        raise call.refusal(first, f"has shape {list(x.shape)}; it needs [..., d] with d at least 1")
    d, dtype = x.shape[-1], x.dtype
    if d > MAX_D:
        raise call.refusal(first, f"has rows of {d}; this backend takes rows of up to {MAX_D}")
    for argument, fits, *dtypes in (
        ("residual", lambda rows: rows.shape == x.shape, dtype),
        ("normed", lambda rows: rows.shape == x.shape, dtype),
        ("y", lambda rows: rows.shape == x.shape, dtype),
        ("weight", lambda gain: gain.shape == (d,), dtype),
        ("bias", lambda shift: shift.shape == (d,), dtype),
        ("basis", lambda basis: basis.dim() == 2 and basis.shape[1] == d, dtype, torch.float32),
        ("token_slot", lambda slot: slot.dim() == 1 and len(slot) * d >= x.numel(), torch.int32),
        ("ids", lambda ids: ids.dim() == 2 and 1 <= ids.shape[1] <= MAX_COMPONENTS, torch.int32),
        ("weights", lambda weights: weights.shape == ids.shape, torch.float32),
        ("law", lambda law: law.shape == ids.shape[:1], torch.int32),
    ):
        tensor = getattr(call, argument)
        if tensor is not None:
            _check(call, argument, tensor, fits(tensor), *dtypes)
    if not 0.0 <= call.eps <= _LARGEST_EPS:
        what = f"is {call.eps:f}; it needs to be finite in float32 and not negative"
        raise call.refusal("eps", what)
    if not 0 <= call.cast < len(Cast):
        what = f"is {call.cast}; it needs to be one of 0 to {len(Cast) - 1}"
        raise call.refusal("cast", f"{what} (emokernel.reference.Cast)")
    read = ((first, None if call.in_place else x), ("residual", call.residual))
    for argument, rows in read:
        if rows is not None and row_stride(rows) is None:
            raise call.refusal(
                argument,
                "has strides that do not make rows of one stride with a contiguous last dimension;"
                " pass it contiguous",
            )
    for argument in ("weight", "bias", "normed", "y"):
        given = getattr(call, argument)
        if given is not None and not given.is_contiguous():
            raise call.refusal(argument, "is strided; pass it contiguous")
    for argument in ("basis", "ids", "weights"):
        table = getattr(call, argument)
        if table.numel() > 0 and table.shape[1] > 1 and table.stride(1) != 1:
            raise call.refusal(argument, "has a strided last dimension; pass it contiguous")


def _check(call: Call, argument: str, tensor: Tensor, fits: bool, *dtypes: torch.dtype) -> None:
    """Device, shape (whether it fits) and dtype (one of these)."""
    x = call.x
    if tensor.device != x.device:
        here, there = ("the CPU" if t.is_cpu else str(t.device) for t in (tensor, x))
        raise call.refusal(argument, f"is on {here}; it needs to be on {there} like the rows")
    if not fits:
        rows = x.numel() // x.shape[-1]
        sizes = {"x": list(x.shape), "d": x.shape[-1], "rows": rows, "ids": list(call.ids.shape)}
        needs = _NEEDS[argument].format(**sizes, slots=len(call.ids), first=call.first)
        raise call.refusal(argument, f"has shape {list(tensor.shape)}; it needs {needs}")
    if tensor.dtype not in dtypes:
        needs = str(dtypes[-1]).removeprefix("torch.")
        if argument == "basis":
            needs += f" or {_name(x)}, the dtype of the rows"
        raise call.refusal(argument, f"is {_name(tensor)}; it needs {needs}")


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _check_memory(call: Call, y: Tensor, normed: Tensor) -> None:
    """Refuses a given output that shares memory with what is read, or with the other."""
    names = "x residual weight bias basis token_slot ids weights law".split()
    tensors = ((name, getattr(call, name)) for name in names[call.in_place :])
    read = [(name, *_extent(tensor)) for name, tensor in tensors if tensor is not None]
    of_y, of_normed = _extent(y), _extent(normed)
    for argument, (begin, end) in (("y", of_y), ("normed", of_normed)):
        for other, first, last in read:
            if begin < last and first < end:
                what = f"shares memory with {other}; it is written and needs memory of its own"
                raise call.refusal(argument, what)
    if of_y[0] < of_normed[1] and of_normed[0] < of_y[1]:
        what = "shares memory with y; each output needs memory of its own"
        raise call.refusal("normed", what)


def _extent(tensor: Tensor) -> tuple[int, int]:
    """The first byte of a tensor, and the one behind its last."""
    begin = tensor.data_ptr()
    if tensor.numel() == 0:
        return begin, begin
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return begin, begin + (last + 1) * tensor.element_size()
