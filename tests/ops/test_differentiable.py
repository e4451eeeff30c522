"""The differentiable form of the law against finite differences and autograd of the reference."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from row_cases import DTYPES, LAWS, Case, make, same_bits
from torch import Tensor
from torch.autograd import gradcheck
from torch.autograd.graph import saved_tensors_hooks

from emokernel import reference
from emokernel.ops import differentiable, select
from emokernel.reference import Law

CPU = select("cpu")
STEER = partial(differentiable.steer, backend=CPU)


def in_fp64(case: Case) -> Case:
    wide = {name: getattr(case, name).double() for name in ("x", "residual", "basis", "weights")}
    return replace(case, **wide)


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def gradients(steer, case: Case, g: Tensor, **options) -> list[Tensor]:
    """Of x, basis and weights."""
    x, basis, weights = leaves(case.x, case.basis, case.weights)
    y = steer(x, basis, case.token_slot, case.ids, weights, case.law, **options)
    return list(torch.autograd.grad(y, (x, basis, weights), g))


@pytest.mark.parametrize("law", LAWS)
def test_gradcheck_of_the_row_law_of_the_reference(law: Law) -> None:
    generator = torch.Generator().manual_seed(0)
    h, v = leaves(*torch.randn(2, 3, 5, generator=generator, dtype=torch.float64))
    laws = torch.full((3,), law, dtype=torch.int32)
    assert gradcheck(lambda h, v: reference.row_law(h, v, laws, torch.float64)[0], (h, v))


@pytest.mark.parametrize("law", [*LAWS, None])
@pytest.mark.parametrize("d", [1, 6])
@pytest.mark.parametrize("steer", [reference.steer, STEER])
def test_gradcheck_of_mix_and_law(steer, d: int, law: Law | None) -> None:
    """With rows of every kind: steered, untouched, and of slots that do not exist."""
    case = in_fp64(make(13, d, law=law))
    options = {"compute": torch.float64} if steer is reference.steer else {}
    # The reference skips a component without weight, its gradient too.
    present = case.weights != 0
    x, basis, weights = leaves(case.x, case.basis, case.weights[present])

    def steered(x: Tensor, basis: Tensor, weights: Tensor) -> Tensor:
        full = torch.zeros_like(case.weights).masked_scatter(present, weights)
        return steer(x, basis, case.token_slot, case.ids, full, case.law, **options)

    assert gradcheck(steered, (x, basis, weights))


@pytest.mark.parametrize("law", LAWS)
def test_weights_of_zero_have_the_gradient_of_the_law(law: Law) -> None:
    """At zero, where a row is untouched, as beside it."""
    case = in_fp64(make(13, 6, law=law))
    zero = torch.zeros_like(case.weights).requires_grad_()
    basis = case.basis * 0.1

    def of_weights(weights: Tensor) -> Tensor:
        return STEER(case.x, basis, case.token_slot, case.ids, weights, case.law)

    assert gradcheck(of_weights, (zero,))
    found = torch.autograd.grad(of_weights(zero).square().sum() + of_weights(zero).sum(), zero)[0]
    assert bool(found.abs().sum() > 0)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    rows=st.integers(0, 40),
    d=st.integers(1, 70),
    components=st.integers(1, 8),
    dtype=st.sampled_from(DTYPES),
    fp32_basis=st.booleans(),
    law=st.sampled_from([*LAWS, None]),
)
def test_backward_is_that_of_the_reference(
    seed: int,
    rows: int,
    d: int,
    components: int,
    dtype: torch.dtype,
    fp32_basis: bool,
    law: Law | None,
) -> None:
    basis_dtype = torch.float32 if fp32_basis else dtype
    case = make(rows, d, dtype, basis_dtype=basis_dtype, components=components, law=law, seed=seed)
    g = torch.randn(rows, d, generator=torch.Generator().manual_seed(seed)).to(dtype)
    exact = gradients(reference.steer, in_fp64(case), g.double(), compute=torch.float64)
    found = gradients(STEER, case, g)
    assert [each.dtype for each in found] == [dtype, basis_dtype, torch.float32]
    # What a gradient may be off by grows with the factors that it is multiplied with.
    v, _ = reference.mix(*case.tables[:4])
    h = case.x.float()
    _, r, _ = reference.scalars(h, v, case.law[case.token_slot.clamp(0, 10).long()])
    size = (g.float().norm(dim=-1) * (1 + r) * (1 + v.norm(dim=-1)) * (1 + h.norm(dim=-1)))[:, None]
    _close(found[0], exact[0], size)
    total = (size.sum() if rows else torch.tensor(0.0)) * (1 + case.weights.abs().max())
    _close(found[1], exact[1], total)
    weighed = case.weights != 0  # the reference has no gradient for the others
    _close(found[2][weighed], exact[2][weighed], total * (1 + case.basis.float().norm()))


def _close(found: Tensor, exact: Tensor, size: Tensor) -> None:
    eps = 0.0 if found.dtype is torch.float32 else torch.finfo(found.dtype).eps
    error = (found.double() - exact).abs()
    tiny = torch.finfo(found.dtype).smallest_normal
    assert bool((error <= eps * exact.abs() + 2e-6 * size + tiny).all()), float(error.max())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_rows_that_are_left_alone_pass_the_gradient_on(law: Law, dtype: torch.dtype) -> None:
    d = 8
    case = make(26, d, dtype, law=law)
    x = case.x.clone()
    x[3], x[4, 0], x[5, 1] = 0.0, float("inf"), float("nan")
    g = torch.randn(26, d, generator=torch.Generator().manual_seed(3)).to(dtype)
    of_x, of_basis, _ = gradients(STEER, replace(case, x=x), g)
    untouched = ~reference.mix(*case.tables[:4])[1]
    assert int(untouched.sum()) > 3
    assert same_bits(of_x[untouched], g[untouched])
    if law:  # without a norm of the row there is no law; under addition there is
        assert same_bits(of_x[3:6], g[3:6])
    assert bool(of_basis.isfinite().all())


def test_a_row_that_would_vanish_passes_the_gradient_on() -> None:
    case = make(1, 4, law=Law.PRESERVE, components=1)
    case = replace(
        case,
        basis=case.x.repeat(7, 1),
        weights=torch.full_like(case.weights, -1.0),
        token_slot=torch.ones_like(case.token_slot),
    )
    g = torch.randn(1, 4)
    of_x, of_basis, of_weights = gradients(STEER, case, g)
    assert same_bits(of_x, g)
    assert not of_basis.any()
    assert not of_weights.any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_has_the_bits_of_the_backend(dtype: torch.dtype) -> None:
    case = make(40, 123, dtype, basis_dtype=torch.float32)
    y = STEER(case.x.clone().requires_grad_() + case.residual, *case.tables)
    assert same_bits(y.detach(), CPU.add_steer(case.x, case.residual, *case.tables))


def test_the_backend_that_is_named_runs() -> None:
    case, called = make(4, 8), []

    def watched(*arguments: Tensor) -> Tensor:
        called.append(arguments)
        return CPU.steer(*arguments)

    differentiable.steer(
        case.x.clone().requires_grad_(), *case.tables, backend=replace(CPU, steer=watched)
    )
    assert len(called) == 1


def test_of_the_rows_only_one_copy_is_kept() -> None:
    rows, d = 400, 64
    case = make(rows, d)
    kept: dict[int, int] = {}
    x = case.x.clone().requires_grad_()
    with saved_tensors_hooks(
        lambda t: (kept.__setitem__(t.data_ptr(), t.numel()), t)[1], lambda t: t
    ):
        STEER(x + case.residual, *case.tables)
    assert sum(kept.values()) < 1.2 * rows * d


def test_backward_runs_under_hooks_of_saved_tensors() -> None:
    case = make(12, 16)
    g = torch.ones_like(case.x)
    expected = gradients(STEER, case, g)
    with torch.autograd.graph.save_on_cpu():
        found = gradients(STEER, case, g)
    for one, other in zip(found, expected, strict=True):
        assert same_bits(one, other)


def test_gradients_of_the_residual_and_of_leading_dimensions() -> None:
    case = make(12, 16)
    x, residual = leaves(case.x.view(3, 4, 16), case.residual.view(3, 4, 16))
    y = STEER(x + residual, *case.tables)
    y.square().sum().backward()
    assert y.shape == x.shape
    assert torch.equal(x.grad, residual.grad)
    (expected,) = leaves(case.x + case.residual)
    reference.steer(expected, *case.tables).square().sum().backward()
    torch.testing.assert_close(x.grad.view(12, 16), expected.grad)


def test_there_is_no_second_derivative() -> None:
    case = make(4, 8)
    (x,) = leaves(case.x)
    y = STEER(x, *case.tables)
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()


def test_wrong_tables_are_refused_before_anything_runs() -> None:
    case = make(4, 8)
    with pytest.raises(RuntimeError, match="token_slot"):
        STEER(case.x.clone().requires_grad_(), case.basis, case.token_slot[:2], *case.tables[2:])


@pytest.mark.filterwarnings("ignore")
def test_it_is_traced_without_a_graph_break() -> None:
    case = make(26, 16)
    g = torch.randn(26, 16, generator=torch.Generator().manual_seed(0))

    def run(x: Tensor, basis: Tensor, weights: Tensor) -> Tensor:
        tables = basis, case.token_slot, case.ids, weights, case.law
        return STEER(x + case.residual, *tables)

    inputs = leaves(case.x, case.basis, case.weights)
    expected = torch.autograd.grad(run(*inputs), inputs, g)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(*inputs), inputs, g)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
