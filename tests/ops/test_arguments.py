"""Every wrong argument is refused before anything runs, in one line that says what to change."""

from __future__ import annotations

import re

import pytest
import row_cases
import torch
from row_cases import Case
from targets import Target

from emokernel.ops import triton
from emokernel.ops.schemas import SCHEMAS
from emokernel.reference import Cast

D, ROWS = 8, 6
NAMES = [schema.partition("(")[0] for schema in SCHEMAS]


def arguments(case: Case, name: str, changes: dict[str, object]) -> dict[str, object]:
    """Those of a good call of an operation, some of them replaced.

    A change may be a value, or a function of the case.
    """
    values = {**vars(case), "h": case.x, "eps": 1e-6, "cast": 0}
    values |= {key: torch.empty_like(case.x) for key in ("y", "normed")}
    for key, change in changes.items():
        change = change(case) if callable(change) else change
        moves = isinstance(change, torch.Tensor) and change.device.type == "cpu"
        values[key] = change.to(case.x.device) if moves else change
    schema = getattr(torch.ops.emokernel, name).default._schema
    return {argument.name: values[argument.name] for argument in schema.arguments}


def call(target: Target, name: str, **changes: object) -> None:
    getattr(target.ops, name).default(**arguments(target.make(ROWS, D), name, changes))


def rows(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def ints(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int32)


TWELVE = rows(12, 8)
WRONG: list[tuple[str, dict[str, object], str]] = [
    ("steer", {"h": rows(6, 8, dtype=torch.float64)},
     "h is float64; it needs float32, bfloat16 or float16"),
    ("steer", {"h": ints(6, 8)}, "h is int32; it needs float32, bfloat16 or float16"),
    ("steer", {"h": torch.tensor(1.0)}, "h has shape []; it needs [..., d] with d at least 1"),
    ("steer", {"h": rows(6, 0)}, "h has shape [6, 0]; it needs [..., d] with d at least 1"),
    ("steer", {"h": rows(8, 6).t()}, "h has strides that do not make rows of one stride"),
    ("steer", {"h": rows(2, 6, 8)[:, :3]}, "h has strides that do not make rows of one stride"),
    ("steer", {"basis": rows(7, 9)}, "basis has shape [7, 9]; it needs [vectors, 8]"),
    ("steer", {"basis": rows(8)}, "basis has shape [8]; it needs [vectors, 8]"),
    ("steer", {"basis": rows(7, 8, dtype=torch.bfloat16)}, "basis is bfloat16; it needs float32"),
    ("steer", {"h": rows(6, 8, dtype=torch.bfloat16),
               "basis": rows(7, 8, dtype=torch.float16)},
     "basis is float16; it needs float32 or bfloat16, the dtype of the rows"),
    ("steer", {"basis": rows(8, 7).t()}, "basis has a strided last dimension"),
    ("steer", {"token_slot": ints(5)},
     "token_slot has shape [5]; it needs one entry for each of the 6 rows"),
    ("steer", {"token_slot": ints(6, 1)}, "token_slot has shape [6, 1]; it needs one entry"),
    ("steer", {"token_slot": ints(6).long()}, "token_slot is int64; it needs int32"),
    ("steer", {"ids": ints(11, 3).long()}, "ids is int64; it needs int32"),
    ("steer", {"ids": ints(11, 9), "weights": rows(11, 9)},
     "ids has shape [11, 9]; it needs [slots, 1 to 8]"),
    ("steer", {"ids": ints(11, 0), "weights": rows(11, 0)},
     "ids has shape [11, 0]; it needs [slots, 1 to 8]"),
    ("steer", {"ids": ints(3, 11).t()}, "ids has a strided last dimension"),
    ("steer", {"weights": rows(11, 2)}, "weights has shape [11, 2]; it needs that of ids, [11, 3]"),
    ("steer", {"weights": rows(11, 3, dtype=torch.bfloat16)},
     "weights is bfloat16; it needs float32"),
    ("steer", {"weights": rows(3, 11).t()}, "weights has a strided last dimension"),
    ("steer", {"law": ints(10)}, "law has shape [10]; it needs [11], one per slot"),
    ("steer", {"law": ints(11).long()}, "law is int64; it needs int32"),
    ("add_steer", {"residual": rows(6, 7)},
     "residual has shape [6, 7]; it needs that of x, [6, 8]"),
    ("add_steer", {"residual": rows(6, 8, dtype=torch.float16)},
     "residual is float16; it needs float32"),
    ("add_steer", {"residual": rows(8, 6).t()}, "residual has strides that do not make rows"),
    ("add_steer_rms_norm", {"weight": rows(7)},
     "weight has shape [7]; it needs [8], one per column"),
    ("add_steer_rms_norm", {"weight": rows(8, dtype=torch.float16)},
     "weight is float16; it needs float32"),
    ("add_steer_rms_norm", {"weight": rows(8, 2)[:, 0]}, "weight is strided; pass it contiguous"),
    ("add_steer_rms_norm", {"eps": -1e-6}, "eps is -0.000001; it needs to be finite in float32"),
    ("add_steer_rms_norm", {"eps": float("nan")}, "eps is nan; it needs to be finite"),
    ("add_steer_rms_norm", {"eps": float("inf")}, "eps is inf; it needs to be finite"),
    ("add_steer_rms_norm", {"cast": len(Cast)},
     f"cast is {len(Cast)}; it needs to be one of 0 to {len(Cast) - 1}"),
    ("add_steer_rms_norm", {"cast": -1},
     f"cast is -1; it needs to be one of 0 to {len(Cast) - 1}"),
    ("add_steer_layer_norm", {"weight": rows(7)},
     "weight has shape [7]; it needs [8], one per column"),
    ("add_steer_layer_norm", {"bias": rows(9)},
     "bias has shape [9]; it needs [8], one per column"),
    ("add_steer_layer_norm", {"bias": rows(8, dtype=torch.float16)},
     "bias is float16; it needs float32"),
    ("add_steer_layer_norm", {"bias": rows(8, 2)[:, 0]}, "bias is strided; pass it contiguous"),
    ("add_steer_layer_norm", {"eps": -1.0}, "eps is -1.000000; it needs to be finite in float32"),
    ("add_steer_rms_norm_out", {"y": lambda case: case.x}, "y shares memory with x"),
    ("add_steer_rms_norm_out", {"y": lambda case: case.residual},
     "y shares memory with residual"),
    ("add_steer_rms_norm_out", {"y": lambda case: case.basis[:6]}, "y shares memory with basis"),
    ("add_steer_rms_norm_out", {"x": lambda case: torch.as_strided(case.residual, (5, 8), (8, 1)),
                                "residual": lambda case: case.residual[:5].clone(),
                                "normed": rows(5, 8),
                                "y": lambda case: case.residual[1:]}, "y shares memory with x"),
    ("add_steer_rms_norm_out", {"normed": lambda case: case.x}, "normed shares memory with x"),
    ("add_steer_rms_norm_out", {"y": lambda case: TWELVE[:6], "normed": lambda case: TWELVE[3:9]},
     "normed shares memory with y"),
    ("add_steer_layer_norm_out", {"weight": lambda case: TWELVE[5],
                                  "normed": lambda case: TWELVE[:6]},
     "normed shares memory with weight"),
    ("add_steer_layer_norm_out", {"bias": lambda case: TWELVE[0], "y": lambda case: TWELVE[:6]},
     "y shares memory with bias"),
    ("add_steer_rms_norm_out", {"y": rows(6, 7)}, "y has shape [6, 7]; it needs that of x, [6, 8]"),
    ("add_steer_rms_norm_out", {"y": rows(6, 8, dtype=torch.float16)},
     "y is float16; it needs float32"),
    ("add_steer_rms_norm_out", {"y": rows(8, 6).t()}, "y is strided; pass it contiguous"),
    ("add_steer_rms_norm_out", {"normed": rows(6, 9)},
     "normed has shape [6, 9]; it needs that of x"),
    ("add_steer_layer_norm_out", {"normed": rows(6, 16)[:, :8]},
     "normed is strided; pass it contiguous"),
    ("steer_rms_norm_", {"y": rows(6, 8, dtype=torch.float64)},
     "y is float64; it needs float32, bfloat16 or float16"),
    ("steer_rms_norm_", {"y": torch.tensor(1.0)},
     "y has shape []; it needs [..., d] with d at least 1"),
    ("steer_rms_norm_", {"y": rows(8, 6).t()}, "y is strided; pass it contiguous"),
    ("steer_rms_norm_", {"y": rows(6, 16)[:, :8]}, "y is strided; pass it contiguous"),
    ("steer_rms_norm_", {"normed": rows(6, 7)},
     "normed has shape [6, 7]; it needs that of y, [6, 8]"),
    ("steer_rms_norm_", {"normed": rows(6, 8, dtype=torch.float16)},
     "normed is float16; it needs float32"),
    ("steer_rms_norm_", {"normed": rows(6, 16)[:, :8]}, "normed is strided; pass it contiguous"),
    ("steer_rms_norm_", {"weight": rows(8, dtype=torch.float16)},
     "weight is float16; it needs float32"),
    ("steer_rms_norm_", {"eps": -1e-6}, "eps is -0.000001; it needs to be finite in float32"),
    ("steer_rms_norm_", {"cast": len(Cast)}, f"cast is {len(Cast)}; it needs to be one of 0 to"),
    ("steer_rms_norm_", {"token_slot": ints(5)},
     "token_slot has shape [5]; it needs one entry for each of the 6 rows"),
    ("steer_rms_norm_", {"y": lambda case: case.x, "normed": lambda case: case.x},
     "normed shares memory with y"),
    ("steer_rms_norm_", {"y": lambda case: TWELVE[:6], "normed": lambda case: TWELVE[5:11]},
     "normed shares memory with y"),
    ("steer_rms_norm_", {"y": lambda case: case.basis[:6]}, "y shares memory with basis"),
    ("steer_rms_norm_", {"normed": lambda case: TWELVE[:6], "weight": lambda case: TWELVE[5]},
     "normed shares memory with weight"),
    ("steer_rms_norm_", {"y": lambda case: TWELVE[:6],
                         "weights": lambda case: TWELVE.view(-1)[8:41].view(11, 3)},
     "y shares memory with weights"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "message"), WRONG)
def test_refused(target: Target, name: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(f"::{name}: {message}")) as caught:
        call(target, name, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "changes", "message"), WRONG)
def test_refused_by_triton(name: str, changes: dict[str, object], message: str) -> None:
    """Its checks need neither a GPU nor the interpreter."""
    given = arguments(row_cases.make(ROWS, D), name, changes)
    out = name.endswith("_out")
    outputs = {key: given.pop(key) for key in ("normed", "y") if out}
    with pytest.raises(RuntimeError, match=re.escape(f"::{name}: {message}")) as caught:
        triton.OPERATIONS[name](*given.values(), **outputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["steer", "steer_rms_norm_"])
def test_a_longer_token_slot_is_fine(target: Target, name: str) -> None:
    call(target, name, token_slot=ints(60))


@pytest.mark.parametrize("name", NAMES)
def test_good_arguments_are_accepted(target: Target, name: str) -> None:
    """The table above changes one thing at a time in calls that work."""
    call(target, name)


def test_other_devices_are_refused(target: Target) -> None:
    """Nothing is registered for them, so torch itself says so."""
    with pytest.raises(NotImplementedError, match=r"Could not run .*::steer.* 'Sparse"):
        call(target, "steer", h=rows(6, 8).to_sparse())
