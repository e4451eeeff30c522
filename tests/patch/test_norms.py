"""Which policy a norm module has, found from its numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from emokernel.patch.norms import probe_norm
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
    found = probe_norm(module, dtype)
    assert (found.cast, found.eps) == (cast, eps)
    assert torch.equal(module.weight, weight)


def test_fp32_gemma_is_not_taken_for_llama():
    assert probe_norm(GemmaRMSNorm(96), torch.float32).cast == Cast.GEMMA
    assert probe_norm(LlamaRMSNorm(96), torch.float32).cast != Cast.GEMMA


class HalvedNorm(LlamaRMSNorm):
    def forward(self, rows):
        return super().forward(rows) / 2


def hooked():
    module = LlamaRMSNorm(8)
    module.register_forward_hook(lambda *_: None)
    return module


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.LayerNorm(8), "no norm with one weight"),
        (nn.Identity(), "no norm with one weight"),
        (LlamaRMSNorm(8).to(torch.bfloat16), "residual stream torch.float32"),
        (HalvedNorm(8), "none of the RMSNorms"),
        (hooked(), "hooks"),
    ],
)
def test_other_modules_are_not_fused_and_told_why(module, reason):
    assert reason in probe_norm(module, torch.float32)
