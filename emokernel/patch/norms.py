"""Which cast policy and eps an RMSNorm module has, found by probing it numerically."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from emokernel.numerics import ulp_distance
from emokernel.reference import Cast, rms_norm

_PROBED = (Cast.LLAMA, Cast.GEMMA, Cast.OLMO)
# How far a fused norm may be from the module (the order of its reduction differs).
MAX_ULP = {torch.float32: 8, torch.bfloat16: 2, torch.float16: 2}


@dataclass(frozen=True)
class FusedNorm:
    """An RMSNorm module that the fused operation can stand in for."""

    module: nn.Module
    eps: float
    cast: Cast

    @property
    def weight(self) -> Tensor:
        """The module's weight ``[d]``, as it is now."""
        # nn.Module.__getattr__ costs several times this, on every layer of every token.
        return self.module._parameters["weight"]

    def stands_for(self, module: nn.Module) -> bool:
        """Whether ``module`` is still the one that was probed, without hooks put on it since."""
        return module is self.module and not (module._forward_hooks or module._forward_pre_hooks)


def probe_norm(module: nn.Module, dtype: torch.dtype) -> FusedNorm | str:
    """The `FusedNorm` of ``module`` for rows of ``dtype``, or one line that says why there is none.

    The module runs on random rows of several scales with a random weight (its own stays as it is),
    and must agree with one policy of `Cast` within `MAX_ULP`.
    """
    parameters = dict(module.named_parameters())
    if list(parameters) != ["weight"] or list(module.buffers()) or parameters["weight"].dim() != 1:
        return "it is no norm with one weight vector"
    weight = parameters["weight"]
    if weight.dtype != dtype:
        return f"its weight is {weight.dtype}, the residual stream {dtype}"
    if module._forward_hooks or module._forward_pre_hooks:
        return "it carries hooks"
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(96, weight.numel(), generator=generator)
    rows *= torch.logspace(-4, 2, 96)[:, None]
    rows = rows.to(weight.device, dtype)
    random_weight = (0.5 + torch.rand(weight.numel(), generator=generator)).to(weight)
    with torch.no_grad():
        wanted = torch.func.functional_call(module, {"weight": random_weight}, (rows,))
        if not isinstance(wanted, Tensor) or wanted.shape != rows.shape or wanted.dtype != dtype:
            return "it changes the shape or dtype of its rows"
        found = []
        for eps in sorted({v for v in vars(module).values() if isinstance(v, float) and v >= 0}):
            for cast in _PROBED:
                distance = ulp_distance(rms_norm(rows.float(), random_weight, eps, cast), wanted)
                if distance.max() <= MAX_ULP[dtype]:
                    found.append(((distance > 0).float().mean().item(), cast, eps))
    if not found:
        return "it computes none of the RMSNorms that the kernels know"
    _, cast, eps = min(found)
    return FusedNorm(module, eps, cast)
