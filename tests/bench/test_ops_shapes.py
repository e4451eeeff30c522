"""The benchmarks of row operations: what they time is the operation, by the ISA that was named."""

from __future__ import annotations

import ops
import ops_shapes as shapes
import pytest
import row_problem
import torch
from ops_shapes_plot import plot_shapes
from row_cases import DTYPES, exactly
from row_problem import ADD, FORMS, IN_PLACE, LAYER_NORM, RMS_NORM, Pool, Problem

from emokernel import _build_info, bench, reference
from emokernel.ops import cpu
from emokernel.reference import Cast


@pytest.fixture(autouse=True)
def _isa_and_threads():
    threads = torch.get_num_threads()
    yield
    row_problem.use_isa(_build_info.choose_isa())
    torch.set_num_threads(threads)


@pytest.mark.parametrize("one_slot", [False, True])
@pytest.mark.parametrize("components", [0, 1, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_forms_compute_what_they_are_called(dtype, components, one_slot):
    problem = Problem(20, 96, dtype, Pool(dtype, 4000), one_slot=one_slot)
    x, residual, tables = problem.x, problem.residual, problem.tables(components)
    steered = reference.add_steer(x, residual, *tables)
    assert torch.equal(steered, x + residual) == (components == 0)
    assert (len(tables[1].unique()) == 1) == (one_slot or not components)
    torch.testing.assert_close(problem.call(components, ADD)(), steered, rtol=2e-2, atol=1e-2)
    for form, eps in ((RMS_NORM, (1e-6, int(Cast.LLAMA))), (LAYER_NORM, (1e-6,))):
        own = (problem.weight,) if form == RMS_NORM else (problem.weight, problem.bias)
        function = getattr(cpu.BACKEND, form.removesuffix("_out"))
        problem.call(components, form)()
        for made, right in zip(
            (problem.normed, problem.y), function(x, residual, *own, *eps, *tables), strict=True
        ):
            assert exactly(made, right)
    before = problem.y.clone()
    problem.call(components, IN_PLACE)()
    assert torch.equal(before, problem.y) == (components == 0)


@pytest.mark.parametrize("form", FORMS)
def test_a_copy_moves_as_many_bytes(form):
    problem = Problem(8, 512, torch.bfloat16)  # whole pages
    problem._pool.target.zero_()
    problem.copy(form)()
    moved = int((problem._pool.target != 0).sum())
    assert 2 * moved * 2 == pytest.approx(problem.bytes(form), rel=0.01)  # a few are zero


def test_an_instruction_set_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="portable"):
        row_problem.use_isa("sse9")


def test_plans_are_of_shapes_that_fit_and_isas_that_differ():
    cells = [cell for plan in shapes.PLANS.values() for cell in plan(shapes.Wanted())]
    assert {cell.plan for cell in cells} == {*shapes.PLANS}
    assert {cell.form for cell in cells} == {*FORMS}
    assert max(cell.bytes for cell in cells) < 1 << 30
    assert any(cell.d % 32 for cell in cells)
    few = shapes.Wanted(rows=(1,), widths=(576,), dtypes=("fp16",))
    assert [(cell.rows, cell.d, cell.dtype) for cell in shapes.wide(few)] == [(1, 576, "fp16")]


def test_a_cell_is_measured_told_and_drawn(tmp_path):
    levels = tuple(row_problem.isas()[-2:])
    rows = []
    for plan, form in (("wide", RMS_NORM), ("threads", IN_PLACE)):
        threads = (1, 2) if plan == "threads" else (1,)
        cell = shapes.Cell(plan, form, 3, 40, "bf16", levels, threads)
        rows += shapes.rows_of(cell, shapes.measured(cell, Pool(torch.bfloat16, 200), 0.0))
    assert [(row["isa"], row["threads"]) for row in rows[:2]] == [(isa, 1) for isa in levels]
    assert all(row["microseconds"][name] > 0 for row in rows for name in ("copy", "none", "k8"))
    assert rows[0]["over_unsteered"]["k1"][0] > 0
    assert "over_unsteered" not in rows[-1]
    assert "over_one_thread" in rows[-1]
    assert len(shapes.report(rows).splitlines()) == 1 + len(rows)
    picture = plot_shapes(bench.append(tmp_path, "shapes", rows))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_throughput_compares_within_an_instruction_set(monkeypatch):
    def fast(_):
        return lambda: None

    for name in ("eager", "compiled"):
        monkeypatch.setattr(ops, name, fast)
    levels = row_problem.isas()[-2:]
    rows = list(ops.throughput(4, 64, "fp32", 3, levels))
    own = [row for row in rows if row["isa"]]
    assert [(row["isa"], row["variant"]) for row in own] == [
        (i, m) for i in levels for m in ops.MIXES
    ]
    assert all(
        {*row["others_over_this"]} == {"copy", "eager", "compiled", *ops.MIXES} for row in own
    )
    told = ops.report([*rows, *ops.latency("fp32", 1, levels[:1], d=64)])
    assert told.count("of copy, goal") == 2 * len(levels)
    assert told.count(" us   goal") == 2
