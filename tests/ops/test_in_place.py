"""`steer_rms_norm_`: the rows that a law changes as the fused operation has them, no other ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from row_cases import (
    DTYPES,
    EPS,
    Case,
    changed_in_place,
    changed_rows,
    exactly,
    make,
    same_bits,
    threads,
)
from targets import Target
from torch import Tensor

from emokernel import reference
from emokernel.reference import Cast

# Of signalling NaN: arithmetic and conversions make others of them.
NAN_BITS = {torch.float32: 0x7FA00001, torch.bfloat16: 0x7FA1, torch.float16: 0x7D01}


def odd(case: Case) -> Tensor:
    """What another norm left: numbers, NaN of odd bits, infinities, -0."""
    normed = case.bias.repeat(len(case.x), 1).contiguous()
    bits = normed.view(torch.int32 if normed.dtype == torch.float32 else torch.int16)
    bits[::2, ::3] = NAN_BITS[normed.dtype]
    normed[1::3, ::2] = torch.tensor([float("inf")])
    normed[2::3, ::2] = -0.0
    return normed


def lawless(case: Case) -> Case:
    """Some rows without a law among them, and some that nobody steers which are not finite."""
    case.x[3::13], case.residual[3::13] = 0.0, -0.0
    case.x[7::13, 0] = float("nan")
    case.x[::13, -1], case.x[1::13, 0] = float("inf"), float("nan")
    return case


@pytest.mark.parametrize("cast", Cast)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_have_the_bits_of_the_fused_operation(
    target: Target, dtype: torch.dtype, cast: Cast
) -> None:
    """Whether that adds nothing to h, or two rows whose sum is h before it is rounded."""
    operation = target.backend.steer_rms_norm_
    basis = (dtype, torch.float32)[cast % 2]
    for d in (7, 64) if target.slow else target.all_widths:
        case = lawless(target.make(13 if target.slow else 26, d, dtype, basis_dtype=basis))
        found = changed_in_place(operation, case, cast, odd(case))
        fused = target.backend.add_steer_rms_norm(*case.norm_arguments(cast))
        alone = replace(case, x=case.x + case.residual, residual=torch.full_like(case.x, -0.0))
        again = target.backend.add_steer_rms_norm(*alone.norm_arguments(cast))
        changed = changed_rows(case)
        assert changed.any()
        assert not changed.all()
        for mine, theirs, same, before in zip(
            found, fused, again, (odd(case), alone.x), strict=True
        ):
            assert same_bits(mine[changed], theirs[changed]), d
            assert same_bits(mine[changed], same[changed]), d
            assert exactly(mine[~changed], before[~changed]), d


@pytest.mark.parametrize("components", [1, 2, 8])
@pytest.mark.parametrize("law", [0, 1, 2, 3])
def test_each_law_by_itself(target: Target, law: int, components: int) -> None:
    if target.slow and components == 2:
        pytest.skip("the interpreter takes minutes for all of them")
    d = 64 if target.slow else 1000
    case = target.make(13, d, torch.bfloat16, law=law, components=components)
    found = changed_in_place(target.backend.steer_rms_norm_, case, Cast.VLLM)
    fused = target.backend.add_steer_rms_norm(*case.norm_arguments(Cast.VLLM))
    changed = changed_rows(case)
    assert int(changed.sum()) >= 8
    for mine, theirs in zip(found, fused, strict=True):
        assert same_bits(mine[changed], theirs[changed])


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_written_where_nobody_steers(target: Target, dtype: torch.dtype) -> None:
    case = lawless(target.make(13, 61, dtype)).untouched()
    normed, y = changed_in_place(target.backend.steer_rms_norm_, case, Cast.LLAMA, odd(case))
    assert exactly(normed, odd(case))
    assert exactly(y, case.x + case.residual)


@pytest.mark.parametrize("d", [61, 64, 1000])
def test_a_row_is_the_same_alone_and_in_any_batch(target: Target, d: int) -> None:
    """However few of the rows are steered, and however they are shared out."""
    if target.slow and d == 1000:
        pytest.skip("the interpreter takes minutes for all of them")
    case = target.make(target.many_rows, d, torch.bfloat16)
    for kept in (1, 9):
        case.token_slot[torch.arange(len(case.x)) % kept > 0] = -1
        whole = changed_in_place(target.backend.steer_rms_norm_, case, Cast.VLLM)
        for index in (torch.arange(5), torch.tensor([9]), torch.randperm(len(case.x))):
            part = changed_in_place(target.backend.steer_rms_norm_, case.rows(index), Cast.VLLM)
            assert all(same_bits(a, b[index]) for a, b in zip(part, whole, strict=True))
        for count in () if target.slow else (1, 2):
            with threads(count):
                again = changed_in_place(target.backend.steer_rms_norm_, case, Cast.VLLM)
            assert all(same_bits(*pair) for pair in zip(again, whole, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_may_lie_anywhere(target: Target, dtype: torch.dtype) -> None:
    """Triton wants rows of whole vectors on 16 bytes, and says so."""
    vectors_only = target.backend.name == "triton"
    for d in (61, 64) if target.slow else (61, 64, 1000, 4096):
        case = target.make(5, d, dtype)
        expected = changed_in_place(target.backend.steer_rms_norm_, case, Cast.GEMMA)
        for at_y, at_normed in ((1, 2), (8, 3), (16, 1)):
            y, normed = moved(case.x + case.residual, at_y), moved(case.x, at_normed)
            arguments = (y, normed, case.weight, EPS, int(Cast.GEMMA), *case.tables)
            if vectors_only and d % 8 == 0:
                with pytest.raises(RuntimeError, match="needs to begin on a multiple of 16 bytes"):
                    target.backend.steer_rms_norm_(*arguments)
                continue
            target.backend.steer_rms_norm_(*arguments)
            assert same_bits(normed, expected[0])
            assert same_bits(y, expected[1])


UNREADABLE = """
import ctypes, mmap, torch
from row_cases import changed_in_place, make, same_bits
from emokernel.ops import cpu
case = make(3, mmap.PAGESIZE // 4)
case.token_slot.copy_(torch.tensor([-1, 2, 0]))  # slot 0 has no component
expected = changed_in_place(cpu.BACKEND.steer_rms_norm_, case, 3)
memory = [mmap.mmap(-1, 3 * mmap.PAGESIZE) for _ in range(2)]
y, normed = rows = [torch.frombuffer(m, dtype=torch.float32).view(3, -1) for m in memory]
y.copy_(case.x + case.residual), normed.copy_(case.x)
def protect(bits):
    for row in (y[0], y[2], normed[0], normed[2]):
        address = ctypes.c_void_p(row.data_ptr())
        assert ctypes.CDLL(None).mprotect(address, mmap.PAGESIZE, bits) == 0
protect(0)
cpu.BACKEND.steer_rms_norm_(y, normed, case.weight, 1e-6, 3, *case.tables)
protect(mmap.PROT_READ | mmap.PROT_WRITE)
assert same_bits(normed, expected[0]) and same_bits(y, expected[1])
"""


def test_a_row_without_a_mix_may_lie_in_memory_that_cannot_be_read() -> None:
    """On a CPU: each page of it that is touched ends the process."""
    here = Path(__file__).resolve().parents
    path = os.pathsep.join(map(str, (here[1], here[2])))
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", UNREADABLE], env=environment, check=True)


def moved(rows: Tensor, offset: int) -> Tensor:
    storage = torch.zeros(rows.numel() + 64, dtype=rows.dtype)
    return storage[offset : offset + rows.numel()].view(rows.shape).copy_(rows)


def test_leading_dimensions_and_no_rows(target: Target) -> None:
    case = target.make(12, 64)
    flat = changed_in_place(target.backend.steer_rms_norm_, case, Cast.OLMO)
    deep = replace(case, x=case.x.view(3, 4, 64), residual=case.residual.view(3, 4, 64))
    found = changed_in_place(target.backend.steer_rms_norm_, deep, Cast.OLMO)
    assert all(same_bits(a.flatten(0, 1), b) for a, b in zip(found, flat, strict=True))
    none = changed_in_place(target.backend.steer_rms_norm_, case.rows(slice(0, 0)), Cast.OLMO)
    assert [tuple(rows.shape) for rows in none] == [(0, 64), (0, 64)]
    no_slots = replace(case, ids=case.ids[:0], weights=case.weights[:0], law=case.law[:0])
    kept = changed_in_place(target.backend.steer_rms_norm_, no_slots, Cast.OLMO)
    assert exactly(kept[0], case.x)


def test_what_it_changes_is_seen_by_a_compiled_graph(target: Target) -> None:
    """Traced as one graph: y and normed are read before, between and after."""
    case = target.make(6, 64)
    arguments = (case.weight, EPS, int(Cast.VLLM), *case.tables)

    def block(y: Tensor, normed: Tensor, operation: Callable) -> tuple[Tensor, ...]:
        early = y * 2
        operation(y, normed, *arguments)
        late = y + normed
        operation(y, normed, *arguments)
        return early, late, y * 3, normed

    for operation in (target.backend.steer_rms_norm_, reference.steer_rms_norm_):
        compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
        given, expected = ((case.x.clone(), case.residual.clone()) for _ in range(2))
        with torch.no_grad():
            for mine, eager in zip(
                compiled(*given, operation), block(*expected, operation), strict=True
            ):
                assert same_bits(mine, eager)
        assert all(same_bits(*pair) for pair in zip(given, expected, strict=True))


def test_autograd_hears_of_it(target: Target) -> None:
    """A graph that kept y would else go on with another y."""
    case = target.make(6, 64)
    scale = torch.ones(64, requires_grad=True)
    kept, y, normed = (scale * case.x).sum(), case.x, case.residual
    target.backend.steer_rms_norm_(y, normed, case.weight, EPS, 0, *case.tables)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()
    with torch.inference_mode():
        inferred = changed_in_place(target.backend.steer_rms_norm_, target.make(6, 64), 0)
    assert same_bits(y, changed_in_place(target.backend.steer_rms_norm_, replace(
        target.make(6, 64), residual=torch.full_like(case.x, -0.0)), 0)[1])  # fmt: skip
    assert inferred[0].is_inference()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cast", Cast)
def test_the_specification_agrees_with_itself(dtype: torch.dtype, cast: Cast) -> None:
    case = lawless(make(26, 64, dtype))
    found = changed_in_place(reference.steer_rms_norm_, case, cast, odd(case))
    fused = reference.add_steer_rms_norm(*case.norm_arguments(cast))
    changed = changed_rows(case)
    for mine, theirs, before in zip(found, fused, (odd(case), case.x + case.residual), strict=True):
        assert same_bits(mine[changed], theirs[changed])
        assert exactly(mine[~changed], before[~changed])
