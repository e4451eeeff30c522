"""Which policy a norm module has, found from its numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from emokernel.ops import select
from emokernel.patch.norms import FusedNorm, norm_arguments, probe_norm
from emokernel.reference import Cast


@pytest.mark.parametrize("eps", [1e-6, 1e-5, 1e-2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("kind", "cast"),
    [(LlamaRMSNorm, Cast.LLAMA), (GemmaRMSNorm, Cast.GEMMA), (Olmo2RMSNorm, Cast.OLMO)],
)
def test_cast_and_eps_are_found(kind, cast, dtype, eps):
    module = kind(96, eps=eps).to(dtype)
    weight = module.weight.clone()
    found = probe_norm(module, 96, dtype)
    assert (found.cast, found.eps) == (cast, eps)
    assert torch.equal(module.weight, weight)


def test_fp32_gemma_is_not_taken_for_llama():
    assert probe_norm(GemmaRMSNorm(96), 96, torch.float32).cast == Cast.GEMMA
    assert probe_norm(LlamaRMSNorm(96), 96, torch.float32).cast != Cast.GEMMA


class HalvedNorm(LlamaRMSNorm):
    def forward(self, rows):
        return super().forward(rows) / 2


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Identity(), "none of the norms"),
        (nn.Linear(8, 8), "no norm with a weight"),
        (LlamaRMSNorm(4), "no norm with a weight"),
        (LlamaRMSNorm(8).to(torch.bfloat16), "residual stream torch.float32"),
        (HalvedNorm(8), "none of the norms"),
    ],
)
def test_other_modules_are_not_fused_and_told_why(module, reason):
    assert reason in probe_norm(module, 8, torch.float32)


class PlusOne(nn.LayerNorm):
    """As in Nemotron."""

    def forward(self, rows):
        return nn.functional.layer_norm(rows, (8,), self.weight + 1, self.bias, self.eps)


class Bare(nn.Module):
    """As in OLMo: neither weight nor bias, and its eps out of sight."""

    def forward(self, rows):
        return nn.functional.layer_norm(rows.float(), (8,), eps=1e-5).to(rows.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "module",
    [nn.LayerNorm(8), nn.LayerNorm(8, bias=False), nn.LayerNorm(8, eps=1e-3), PlusOne(8), Bare()],
    ids=["plain", "no-bias", "eps", "plus-one", "bare"],
)
def test_layer_norms_are_found_and_stand_in(module, dtype):
    module = copy.deepcopy(module)
    for parameter in module.parameters():
        parameter.data.uniform_(0.5, 1.5)
    module = module.to(dtype)
    norm = probe_norm(module, 8, dtype)
    assert norm.cast is None
    assert norm.eps == getattr(module, "eps", 1e-5)
    x = torch.randn(40, 8).to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(run(norm, x), module(x), rtol=2**-7, atol=1e-2)
        if isinstance(module, PlusOne):  # a new weight is seen
            module.weight.mul_(3.0)
            torch.testing.assert_close(run(norm, x), module(x), rtol=2**-6, atol=1e-2)


def run(norm: FusedNorm, x: torch.Tensor) -> torch.Tensor:
    """What the fused operation gives for rows to which nothing is added."""
    untouched = torch.full((len(x),), -1, dtype=torch.int32)
    ids = torch.zeros(1, 1, dtype=torch.int32)
    tables = torch.zeros(1, 8, dtype=x.dtype), untouched, ids, ids.float(), ids[0]
    operation = getattr(select("cpu"), norm.operation)
    normed, _ = operation(
        x, torch.zeros_like(x), *norm_arguments(norm, vars(norm.module), x), *tables
    )
    return normed


def test_parameters_that_a_norm_lacks_are_made_once():
    norm, x = probe_norm(Bare(), 8, torch.float32), torch.randn(3, 8)
    with torch.inference_mode():
        first, again = (norm_arguments(norm, vars(norm.module), x) for _ in range(2))
    assert first[0] is again[0]
    assert first[1] is again[1]
    assert not first[0].is_inference()
    other = norm_arguments(norm, vars(norm.module), x.bfloat16())
    assert [other[0].dtype, other[1].dtype] == [torch.bfloat16] * 2


def test_an_eps_may_have_two_names():
    module = LlamaRMSNorm(8, eps=1e-3)
    module.eps = module.variance_epsilon
    norm, x = probe_norm(module, 8, torch.float32), torch.randn(3, 8)
    assert norm.eps == 1e-3
    with torch.no_grad():
        assert norm_arguments(norm, vars(module), x)[1] == 1e-3
        module.variance_epsilon = 1e-2  # nobody can say which of them counts
        assert norm_arguments(norm, vars(module), x) is None
