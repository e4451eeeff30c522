"""Which norm a module computes, found by probing it, and the fused operation that replaces it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.numerics import MAX_RMS_NORM_ULP, ulp_distance
from emokernel.reference import Cast, layer_norm, rms_norm

NO_NORM = "it is no norm with a weight, and perhaps a bias, for each column"
# VLLM differs from LLAMA in rows that are not rounded yet, which no module sees.
_RMS_CASTS = tuple(cast for cast in Cast if cast is not Cast.VLLM)
# Of a LayerNorm, in units of the dtype's epsilon of |w| (|n| + 1) + |b|, n the normed row.
_MAX_LAYER_NORM_ERROR = 4.0
_RMS_NORM, _LAYER_NORM = "add_steer_rms_norm", "add_steer_layer_norm"
_NEEDS = {_RMS_NORM: {"weight"}, _LAYER_NORM: {"weight", "bias"}}
_NEUTRAL = {"weight": 1.0, "bias": 0.0}
# Beside what the module holds: some write theirs into their forward.
_USUAL_EPS = (1e-5, 1e-6)


@dataclass(frozen=True)
class FusedNorm:
    """A norm module that a fused operation can stand in for.

    ``cast``: that of an RMSNorm, None for a LayerNorm. ``plus_one``: a LayerNorm that multiplies by
    its weight plus one, rounded to the weight's dtype. ``eps_names``: the attributes of the module
    that hold ``eps``, from where it is read again. ``lacks``: the parameters that it never had;
    ``made``: what stands for them. ``operation`` computes it.
    """

    module: nn.Module
    operation: str
    eps: float
    cast: int | None
    plus_one: bool
    eps_names: tuple[str, ...]
    lacks: frozenset[str]
    made: dict[tuple, Tensor] = field(default_factory=dict, compare=False, repr=False)


def norm_arguments(norm: FusedNorm, attributes: Mapping[str, Any], x: Tensor) -> tuple | None:
    """What the operation takes behind the rows ``x``; None where it cannot stand in now.

    Under autocast it cannot, nor where a parameter is to get a gradient, which it does not give.
    ``attributes`` are those of the module now.
    """
    if torch.is_autocast_enabled(x.device.type):
        return None
    parameters = attributes["_parameters"].values()
    if torch.is_grad_enabled() and any(p is not None and p.requires_grad for p in parameters):
        return None
    weight = _parameter(norm, "weight", attributes, x)
    if weight is None:
        return None
    if norm.plus_one:
        weight = weight + 1  # anew: torch does not count every way to write to a weight
    eps, *others = [attributes[name] for name in norm.eps_names] or [norm.eps]
    if any(other != eps for other in others):  # nobody can say any more which of them is the eps
        return None
    if norm.cast is not None:
        return weight, eps, norm.cast
    bias = _parameter(norm, "bias", attributes, x)
    return None if bias is None else (weight, bias, eps)


def arguments_as_they_are(
    norm: FusedNorm, attributes: Mapping[str, Any]
) -> Callable[[], tuple | None] | None:
    """What reads the arguments of `norm_arguments`, where that is no more than to read them.

    Whether they fit the rows is left to the operation, which refuses what does not; but one on the
    meta device, where accelerate keeps what is offloaded, would make it compute nothing. None where
    something is made for the norm, or where its eps has no name or several.
    """
    if norm.lacks & _NEEDS[norm.operation] or norm.plus_one or len(norm.eps_names) != 1:
        return None
    (eps,), cast = norm.eps_names, norm.cast

    def of_rms_norm() -> tuple | None:
        weight = attributes["_parameters"].get("weight")
        return None if weight is None or weight.is_meta else (weight, attributes[eps], cast)

    def of_layer_norm() -> tuple | None:
        own = attributes["_parameters"]
        weight, bias = own.get("weight"), own.get("bias")
        if weight is None or bias is None or weight.is_meta or bias.is_meta:
            return None
        return weight, bias, attributes[eps]

    return of_layer_norm if cast is None else of_rms_norm


def _parameter(
    norm: FusedNorm, name: str, attributes: Mapping[str, Any], x: Tensor
) -> Tensor | None:
    """A parameter that a kernel can read with ``x``: alike, and whole (no shard of FSDP's)."""
    parameter = attributes["_parameters"].get(name)
    if parameter is None:  # FSDP may hold one elsewhere
        return _neutral(norm, name, x) if name in norm.lacks else None
    fits = parameter.dtype is x.dtype and parameter.device == x.device
    return parameter if fits and parameter.shape[0] == x.shape[-1] else None


def _neutral(norm: FusedNorm, name: str, x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return x.new_full(x.shape[-1:], _NEUTRAL[name])
    kind = name, x.dtype, x.device
    if kind not in norm.made:
        with torch.inference_mode(False):
            norm.made[kind] = x.new_full(x.shape[-1:], _NEUTRAL[name], requires_grad=False)
    return norm.made[kind]


def probe_norm(module: nn.Module, width: int, dtype: torch.dtype) -> FusedNorm | str:
    """The `FusedNorm` of ``module`` for rows of ``dtype``, or one line that says why there is none.

    The module runs on random rows of several scales with random parameters (its own stay as they
    are), and must agree with a LayerNorm or with an RMSNorm of one of the casts.
    """
    parameters = dict(module.named_parameters())
    unknown = set(parameters) - {"weight", "bias"} or [name for name, _ in module.named_buffers()]
    if unknown or any(p.shape != (width,) for p in parameters.values()):
        return NO_NORM
    for name, parameter in parameters.items():
        if parameter.device.type == "meta":
            return f"its {name} is offloaded"
        if parameter.dtype != dtype:
            return f"its {name} is {parameter.dtype}, the residual stream {dtype}"
    with torch.no_grad():
        matches = list(_matches(module, parameters, width, dtype))
    if not matches:
        return "it computes none of the norms that the kernels know"
    return min(matches, key=lambda match: match[0])[1]


class _Unhooked(nn.Module):
    """The forward of a module alone: its hooks (those of FSDP) belong to the model's own runs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, rows: Tensor) -> Tensor:
        return self.module.forward(rows)


def _matches(
    module: nn.Module, parameters: Mapping[str, Tensor], width: int, dtype: torch.dtype
) -> Iterator[tuple[float, FusedNorm]]:
    """Every norm that fits random rows, with the share of elements in which it differs."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(96, width, generator=generator) + 0.3
    rows *= torch.logspace(-4, 2, 96)[:, None]
    random = 0.5 + torch.rand(2, width, generator=generator)
    device = next((each.device for each in parameters.values()), torch.device("cpu"))
    rows, random = rows.to(device, dtype), random.to(device, dtype)
    given = {name: row for name, row in zip(_NEUTRAL, random, strict=True) if name in parameters}
    named = {f"module.{name}": value for name, value in given.items()}
    try:
        wanted = torch.func.functional_call(_Unhooked(module), named, (rows.clone(),))
    except Exception:  # whatever a module raises that is no norm
        return
    if not isinstance(wanted, Tensor) or wanted.shape != rows.shape or wanted.dtype != dtype:
        return
    weight = given.get("weight", torch.ones_like(random[0]))
    bias = given.get("bias", torch.zeros_like(random[0]))
    lacks, rows = frozenset(_NEUTRAL) - given.keys(), rows.float()
    casts = () if "bias" in given else _RMS_CASTS if given else (Cast.LLAMA,)
    for eps, names in _eps_of(module):
        for cast in casts:
            distance = ulp_distance(rms_norm(rows, weight, eps, cast), wanted)
            if distance.max() <= MAX_RMS_NORM_ULP[dtype]:
                norm = FusedNorm(module, _RMS_NORM, eps, int(cast), False, names, lacks)
                yield float((distance > 0).float().mean()), norm
        for plus_one in (True, False) if "weight" in given else (False,):
            w = weight + 1 if plus_one else weight
            made = layer_norm(rows, w, bias, eps)
            n = layer_norm(rows, torch.ones_like(w), torch.zeros_like(w), eps).float().abs()
            scale = w.float().abs() * (n + 1) + bias.float().abs()
            off = (made.float() - wanted.float()).abs()
            if (off <= _MAX_LAYER_NORM_ERROR * torch.finfo(dtype).eps * scale).all():
                norm = FusedNorm(module, _LAYER_NORM, eps, None, plus_one, names, lacks)
                yield float((made != wanted).float().mean()), norm


def _eps_of(module: nn.Module) -> list[tuple[float, tuple[str, ...]]]:
    """(What may be the eps of a module, the attributes that hold it)."""
    held: dict[float, tuple[str, ...]] = dict.fromkeys(_USUAL_EPS, ())
    for name, value in vars(module).items():
        if isinstance(value, float) and value >= 0:
            held[value] = (*held.get(value, ()), name)
    return sorted(held.items())
