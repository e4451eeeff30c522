"""The cpu backend against the specification, in ulps and against fp64."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from row_cases import DTYPES, EPS, HALVES, LAWS, LAYER, Case, fused, fused_into
from targets import Target
from torch import Tensor

from emokernel import reference
from emokernel.numerics import ulp_distance
from emokernel.reference import Cast

ROWS = 13  # through all slots, -1 and a slot that does not exist


def exact_y(case: Case, h: Tensor) -> tuple[Tensor, Tensor]:
    """(y in fp64 before its rounding, |r| (|h| + c |v|), the scale of its terms)."""
    v, touched = reference.mix(*case.tables[:1], case.token_slot[: len(h)], *case.tables[2:4])
    law = case.law[case.token_slot[: len(h)].clamp(0, len(case.law) - 1).long()]
    y, lawful = reference.row_law(h, v, law, torch.float64)
    c, r, _ = reference.scalars(h.double(), v.double(), law)
    scale = r[:, None] * (h.double().abs() + c[:, None] * v.double().abs())
    steered = (touched & lawful)[:, None]
    return torch.where(steered, y, h.double()), torch.where(steered, scale, h.double().abs())


def check_y(y: Tensor, case: Case, h: Tensor) -> None:
    exact, scale = exact_y(case, h)
    off = (y.double() - exact).abs()
    if y.dtype == torch.float32:
        assert bool((off <= 1e-6 * scale).all()), float((off / scale).nan_to_num().max())
    else:  # where the terms cancel, an ulp of what is left says nothing
        near = (ulp_distance(y, exact.to(y.dtype)) <= 1) | (off <= 1e-6 * scale)
        assert bool(near.all())


@pytest.mark.parametrize("components", [1, 2, 3, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_law_against_fp64(target: Target, dtype: torch.dtype, components: int) -> None:
    if target.slow and components in (2, 3):
        pytest.skip("the interpreter takes minutes for all of them")
    for d, basis_dtype in product(target.all_widths, {dtype, torch.float32}):
        case = target.make(ROWS, d, dtype, components=components, basis_dtype=basis_dtype)
        h = case.x + case.residual
        check_y(target.backend.add_steer(case.x, case.residual, *case.tables), case, h)
        check_y(target.backend.steer(h, *case.tables), case, h)


@pytest.mark.parametrize("cast", Cast)
@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_rms_norm_against_specification(
    target: Target, dtype: torch.dtype, cast: Cast
) -> None:
    """The norm of the y that was stored (under VLLM: of the exact y), to 2 and 8 ulp."""
    limit = 8 if dtype == torch.float32 else 2
    for d in target.all_widths:
        case = target.make(ROWS, d, dtype)
        normed, y = fused(target.backend, case, cast)
        check_y(y, case, case.x + case.residual)
        expected = reference.rms_norm(y.float(), case.weight, EPS, cast)
        if cast == Cast.VLLM and dtype in HALVES:
            expected, _ = reference.add_steer_rms_norm(*case.norm_arguments(cast))
        assert int(ulp_distance(normed, expected).max()) <= limit, d


def check_layer_norm(normed: Tensor, y: Tensor, case: Case) -> None:
    """Error against fp64 at most twice torch's own in that row plus 1 ulp of |w n| + |b|."""

    def layer_norm(rows: Tensor) -> Tensor:
        weight, bias = case.weight.to(rows.dtype), case.bias.to(rows.dtype)
        return torch.nn.functional.layer_norm(rows, rows.shape[-1:], weight, bias, EPS)

    exact = layer_norm(y.double())
    bias = case.bias.double().abs()
    ulp = torch.finfo(y.dtype).eps * ((exact - case.bias.double()).abs() + bias)
    own = (layer_norm(y).double() - exact).abs().amax(-1, keepdim=True)
    assert bool(((normed.double() - exact).abs() <= 2 * own + ulp).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_layer_norm_against_specification(target: Target, dtype: torch.dtype) -> None:
    for d in target.all_widths:
        case = target.make(ROWS, d, dtype)
        normed, y = fused(target.backend, case, LAYER)
        check_y(y, case, case.x + case.residual)
        check_layer_norm(normed, y, case)
        assert torch.equal(y, target.backend.add_steer(case.x, case.residual, *case.tables))


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_far_from_zero(target: Target, dtype: torch.dtype) -> None:
    """mean(u^2) - mean(u)^2 would lose every digit of these rows."""
    for d in (7, 64, 1000):
        case = target.make(ROWS, d, dtype)
        case.x.add_(1000.0), case.residual.add_(3000.0)
        normed, y = fused(target.backend, case, LAYER)
        check_layer_norm(normed, y, case)


@pytest.mark.parametrize("d", [64, 1000, 4096])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ["llama", "gemma", "olmo"])
def test_fused_norm_against_modules(
    target: Target, family: str, dtype: torch.dtype, d: int
) -> None:
    """Within 2 and 8 ulp of the module, and nearer to it than any other cast policy."""
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

    module_type, cast = {
        "llama": (LlamaRMSNorm, Cast.LLAMA),
        "gemma": (GemmaRMSNorm, Cast.GEMMA),
        "olmo": (Olmo2RMSNorm, Cast.OLMO),
    }[family]
    if target.slow and d == 4096:
        pytest.skip("to the interpreter it is as 1000")
    case = target.make(12 if target.slow else 64, d, dtype)
    module = module_type(d, eps=1e-6)
    module.weight.data = case.weight
    normed, y = target.backend.add_steer_rms_norm(*case.norm_arguments(cast))
    expected = module(y).detach()
    distance = ulp_distance(normed, expected)
    assert int(distance.max()) <= (8 if dtype == torch.float32 else 2)
    if dtype in HALVES:
        off = int((distance > 0).sum())
        for wrong in {Cast.LLAMA, Cast.GEMMA, Cast.OLMO} - {cast}:
            other = reference.rms_norm(y.float(), case.weight, 1e-6, wrong)
            assert off * 20 < int((ulp_distance(other, expected) > 0).sum()), wrong


@pytest.mark.parametrize("dtype", DTYPES)
def test_operations_and_forms_agree(target: Target, dtype: torch.dtype) -> None:
    """All give the same y, and both forms of a norm the same bits."""
    for d in (61,) if target.slow else (123, 1000, 4096, *target.long_widths):
        case = target.make(5 if target.slow else ROWS, d, dtype)
        y = target.backend.steer(case.x + case.residual, *case.tables)
        assert torch.equal(target.backend.add_steer(case.x, case.residual, *case.tables), y)
        for norm in (Cast.LLAMA, Cast.VLLM, LAYER):
            normed, fused_y = fused(target.backend, case, norm)
            assert torch.equal(fused_y, y)
            into = fused_into(target.ops, case, norm)
            assert torch.equal(into[0], normed)
            assert torch.equal(into[1], y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [8, 61])
def test_layouts(target: Target, dtype: torch.dtype, d: int) -> None:
    """Strided rows, higher dimensions, packed tables and no rows give what plain ones give."""
    case = target.make(12, d, dtype)
    expected = target.backend.add_steer_rms_norm(*case.norm_arguments(0))
    packed = torch.zeros(12, 2 * d + 3, dtype=dtype)
    packed[:, :d], packed[:, d : 2 * d] = case.x, case.residual
    x, residual = packed[:, :d], packed[:, d : 2 * d]
    components = case.ids.shape[1]
    record = torch.zeros(len(case.law), 1 + 2 * components, dtype=torch.int32)
    record[:, 0], record[:, 1 : 1 + components] = case.law, case.ids
    record[:, 1 + components :] = case.weights.view(torch.int32)
    tables = (
        torch.cat([case.basis, case.basis], 1)[:, :d],
        torch.stack([case.token_slot] * 2, 1)[:, 0],
        record[:, 1 : 1 + components],
        record[:, 1 + components :].view(torch.float32),
        record[:, 0],
    )
    normed, y = target.backend.add_steer_rms_norm(x, residual, case.weight, 1e-6, 0, *tables)
    assert torch.equal(normed, expected[0])
    assert torch.equal(y, expected[1])

    shape = (2, 1, 3, 2, d)
    cube = (case.x.view(shape), case.residual.view(shape), case.weight, 1e-6, 0)
    normed, y = target.backend.add_steer_rms_norm(*cube, *case.tables)
    assert y.shape == shape
    assert torch.equal(y.view(-1, d), expected[1])
    one = case.residual[:1].expand(12, d)
    assert torch.equal(
        target.backend.add_steer(case.x, one, *case.tables),
        target.backend.add_steer(case.x, one.contiguous(), *case.tables),
    )
    empty = case.rows(slice(0, 0))
    assert target.backend.add_steer_rms_norm(*empty.norm_arguments(0))[1].shape == (0, d)
    vector = target.backend.add_steer(case.x[3], case.residual[3], case.basis, case.token_slot[3:4],
                               *case.tables[2:])  # fmt: skip
    assert torch.equal(vector, expected[1][3])


def test_tables_are_never_read_outside(
    target: Target,
) -> None:
    """Any number in token_slot and ids is safe, and means an absent slot or component."""
    case = target.make(64, 33)
    extreme = torch.tensor([-(2**31), -2, -1, 7, 2**31 - 1], dtype=torch.int32)
    case.ids.copy_(extreme[torch.arange(case.ids.numel()) % 5].view_as(case.ids))
    case.token_slot[::2] = extreme[torch.arange(32) % 5]
    y = target.backend.add_steer(case.x, case.residual, *case.tables)
    assert torch.equal(y, case.x + case.residual)


def test_empty_tables(
    target: Target,
) -> None:
    case = target.make(5, 9)
    none = torch.empty(0, 3, dtype=torch.int32)
    tables = (case.basis, case.token_slot, none, none.float(), none[:, 0])
    assert torch.equal(target.backend.steer(case.x, *tables), case.x)
    tables = (case.basis[:0], *case.tables[1:])
    assert torch.equal(target.backend.steer(case.x, *tables), case.x)


def test_deterministic(
    target: Target,
) -> None:
    case = target.make(5 if target.slow else 40, 1000, torch.bfloat16)
    first = target.backend.add_steer_rms_norm(*case.norm_arguments(0))
    for _ in range(2 if target.slow else 20):
        again = target.backend.add_steer_rms_norm(*case.norm_arguments(0))
        assert torch.equal(again[0], first[0])
        assert torch.equal(again[1], first[1])


@pytest.mark.parametrize("law", LAWS)
def test_sums_stay_exact_where_rounding_is_one_sided(target: Target, law: int) -> None:
    """Equal elements make every rounding of a running sum go the same way."""
    d = 8003 if target.slow else 20011
    case = target.make(4, d, law=law, components=1)
    case.x.fill_(0.1), case.residual.fill_(0.0), case.basis.fill_(0.7)
    case.token_slot.copy_(torch.tensor([1, 2, 3, 4]))
    check_y(target.backend.steer(case.x, *case.tables), case, case.x)
