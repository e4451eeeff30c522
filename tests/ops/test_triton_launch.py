"""The launches of the triton backend, and where it cannot run."""

from __future__ import annotations

import importlib.util
import inspect
import os
import subprocess
import sys
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from row_cases import DTYPES, EPS, WIDTHS, Case, make
from torch import Tensor

from emokernel.ops import available, checks, triton
from emokernel.ops.checks import MAX_D
from emokernel.ops.schemas import IN_PLACE
from emokernel.ops.triton import launch_shape

INSTALLED = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(
    not INSTALLED, reason="triton is not installed: pip install 'emokernel[triton]'"
)


def test_a_launch_shape_depends_on_width_and_dtype_only() -> None:
    assert list(inspect.signature(launch_shape).parameters) == ["d", "dtype"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_launch_shapes_hold_the_row(dtype: torch.dtype) -> None:
    for d in (*WIDTHS, 5120, 8192, MAX_D):
        shape = launch_shape(d, dtype)
        block = shape["BLOCK"]
        assert d <= block < 2 * d or d == block == 1
        assert block & (block - 1) == 0
        assert shape["VECTOR"] == (16 // dtype.itemsize if d * dtype.itemsize % 16 == 0 else 1)
        assert 1 <= shape["num_warps"] <= 16


def test_rows_that_are_too_wide_are_refused() -> None:
    case = make(2, MAX_D + 1)
    with pytest.raises(RuntimeError, match="x has rows of 16385; this backend takes rows of up to"):
        triton.OPERATIONS["add_steer"](case.x, case.residual, *case.tables)


def launch(case: Case, **outputs: Tensor) -> tuple:
    """The arguments that the kernel of add_steer_rms_norm is launched with."""
    name = "add_steer_rms_norm_out" if outputs else "add_steer_rms_norm"
    return launched(name, *case.norm_arguments(0), **outputs)


def launched(name: str, *arguments: object, **outputs: Tensor) -> tuple:
    calls = []
    with (
        patch.object(triton, "launch", lambda _, *arguments, **__: calls.append(arguments)),
        patch.object(triton, "INTERPRETED", True),
    ):
        triton.OPERATIONS[name](*arguments, **outputs)
    return calls[0] if calls else ()


def launch_in_place(case: Case, y: Tensor, normed: Tensor) -> tuple:
    return launched(IN_PLACE, y, normed, case.weight, EPS, 0, *case.tables)


def misaligned(rows: Tensor) -> Tensor:
    return torch.empty(rows.numel() + 1, dtype=rows.dtype)[1:].view(rows.shape).copy_(rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [8, 1000])
def test_vector_mode_gets_aligned_rows(dtype: torch.dtype, d: int) -> None:
    """Whatever views come in."""
    case = make(3, d, dtype)
    wide = torch.zeros(3, d + 1, dtype=dtype)
    wide[:, 1:] = case.residual
    odd = replace(
        case,
        x=misaligned(case.x),
        residual=wide[:, 1:],
        weight=misaligned(case.weight),
        basis=misaligned(case.basis),
    )
    arguments = launch(odd)
    x, residual, y, normed, weight, bias, basis = arguments[:7]
    assert bias is None
    strides = (*arguments[11:13], d, d, arguments[13])
    for rows, stride in zip((x, residual, y, normed, basis), strides, strict=True):
        assert rows.data_ptr() % 16 == 0
        assert stride * rows.element_size() % 16 == 0
    assert weight.data_ptr() % 16 == 0
    for copy, rows in ((x, case.x), (residual, case.residual), (basis, case.basis)):
        assert torch.equal(copy, rows)


def test_rows_are_not_copied_without_need() -> None:
    aligned = make(4, 64, torch.bfloat16)
    expanded = replace(aligned, residual=aligned.residual[:1].expand(4, 64))
    for case in (aligned, expanded, replace(make(4, 61), x=misaligned(make(4, 61).x))):
        arguments = launch(case)
        assert arguments[0] is case.x
        assert arguments[1] is case.residual
        assert arguments[6] is case.basis


def test_no_rows_launch_nothing() -> None:
    none = make(4, 64).rows(slice(0, 0))
    assert launch(none) == ()
    assert launch_in_place(none, none.x, none.residual) == ()


def test_given_outputs_are_written_as_they_lie() -> None:
    case = make(3, 8)
    y, normed = torch.empty_like(case.x), torch.empty_like(case.x)
    given = launch(case, y=y, normed=normed)[2:4]
    assert given[0] is y
    assert given[1] is normed
    with pytest.raises(RuntimeError, match="_out: y needs to begin on a multiple of 16 bytes"):
        launch(case, y=misaligned(case.x), normed=normed)
    assert launch(make(3, 7), y=misaligned(make(3, 7).x), normed=make(3, 7).x)


def test_what_is_changed_in_place_is_never_a_copy() -> None:
    case = make(3, 8)
    x, residual, y, normed = launch_in_place(case, case.x, case.residual)[:4]
    assert x is y is case.x
    assert normed is case.residual
    assert residual is None
    for changed in ("y", "normed"):
        rows = {"y": case.x, "normed": case.residual}
        rows[changed] = misaligned(rows[changed])
        with pytest.raises(RuntimeError, match=f"_: {changed} needs to begin on a multiple of 16"):
            launch_in_place(case, **rows)
    odd = make(3, 7)
    rows = misaligned(odd.x)
    assert launch_in_place(odd, rows, odd.residual)[0] is rows


@needs_triton
def test_reasons_for_being_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton as installed

    reason = triton.unavailable.__wrapped__  # the answer of the process is kept
    triton.unavailable()
    with monkeypatch.context() as m:
        m.setattr(triton, "INTERPRETED", True)
        assert reason() is None
        m.setattr(installed, "__version__", "3.5.1")
        assert reason() == "triton 3.5.1 is too old: it needs 3.6 or newer"
    with monkeypatch.context() as m:
        m.setattr(importlib.util, "find_spec", lambda _: None)
        assert reason() == "triton is not installed: pip install 'emokernel[triton]'"
        assert list(triton.describe()) == ["unavailable"]
    if not torch.cuda.is_available() and not triton.INTERPRETED:
        assert "triton finds no GPU driver" in reason()
        assert "triton finds no GPU driver" in available("cuda")["triton"]
        assert triton.describe() == {
            "unavailable": reason(), "triton": installed.__version__, "interpreted": False,
        }  # fmt: skip


@pytest.mark.skipif(triton.INTERPRETED, reason="the interpreter serves CPU tensors")
def test_cpu_tensors_are_refused() -> None:
    case = make(2, 8)
    assert available("cpu")["triton"] == "it serves cuda tensors only"
    with pytest.raises(RuntimeError, match="h is on cpu; it needs to be on a GPU"):
        triton.OPERATIONS["steer"](case.x, *case.tables)
    with pytest.raises(NotImplementedError, match="Could not run 'emokernel_triton::steer'"):
        torch.ops.emokernel_triton.steer(case.x, *case.tables)


def run(script: str) -> str:
    """What a script prints in a fresh process that does not interpret."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_emokernel_works_without_triton() -> None:
    blocked = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
import emokernel, torch
from emokernel.ops import available, select, triton
print(select("cpu").name, available("cuda")["triton"])
print(triton.describe())
"""
    first, second = run(blocked).splitlines()
    assert first == "cpu triton is not installed: pip install 'emokernel[triton]'"
    assert "is not installed" in second


def test_triton_is_not_imported_before_it_is_needed() -> None:
    script = "import sys, emokernel, emokernel.ops.triton; print('triton' in sys.modules)"
    assert run(script).strip() == "False"


def test_a_usual_call_is_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """That costs more than the launch."""
    monkeypatch.setattr(checks, "_check", lambda *_: pytest.fail("it was"))
    case = make(4, 64)
    assert launch(case)
    assert launch_in_place(case, case.x, case.residual)
