"""Which norm a module computes, found by probing it, and the fused operation that replaces it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from emokernel.numerics import ulp_distance
from emokernel.ops import Backend
from emokernel.reference import Cast, layer_norm, rms_norm

NO_NORM = "it is no norm with a weight, and perhaps a bias, for each column"
# VLLM differs from LLAMA in rows that are not rounded yet, which no module sees.
_RMS_CASTS = tuple(cast for cast in Cast if cast is not Cast.VLLM)
# How far a fused RMSNorm may be from the module (the order of its reduction differs).
MAX_ULP = {torch.float32: 8, torch.bfloat16: 2, torch.float16: 2}
# Of a LayerNorm, in units of the dtype's epsilon of |w| (|n| + 1) + |b|, n the normed row.
_MAX_LAYER_NORM_ERROR = 4.0
_NEUTRAL = {"weight": 1.0, "bias": 0.0}
# Beside what the module holds: some write theirs into their forward.
_USUAL_EPS = (1e-5, 1e-6)


@dataclass
class FusedNorm:
    """A norm module that a fused operation can stand in for.

    ``cast``: that of an RMSNorm, None for a LayerNorm. ``plus_one``: a LayerNorm that multiplies by
    its weight plus one, rounded to the weight's dtype. ``eps_names``: the attributes of the module
    that hold ``eps``, from where it is read again.
    """

    module: nn.Module
    eps: float
    cast: Cast | None
    plus_one: bool = False
    eps_names: tuple[str, ...] = ()
    # The parameters that it was patched with: FSDP may hold them elsewhere.
    _held: frozenset[str] = field(init=False, repr=False)
    # (for which rows, what): parameters that the module has not got.
    _made: dict[str, tuple[object, Tensor]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        parameters = self.module._parameters
        self._held = frozenset(name for name, value in parameters.items() if value is not None)

    @property
    def operation(self) -> str:
        """The operation that computes it."""
        return "add_steer_layer_norm" if self.cast is None else "add_steer_rms_norm"

    def run(
        self, ops: Backend, x: Tensor, residual: Tensor, tables: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor] | None:
        """(normed, y) of the fused operation; None where the parameters do not fit the rows now."""
        weight = self._parameter("weight", x)
        if weight is None:
            return None
        if self.plus_one:
            weight = weight + 1  # anew: torch does not count every way to write to a weight
        eps = self._eps_now()
        if eps is None:
            return None
        if self.cast is not None:
            return ops.add_steer_rms_norm(x, residual, weight, eps, self.cast, *tables)
        bias = self._parameter("bias", x)
        if bias is None:
            return None
        return ops.add_steer_layer_norm(x, residual, weight, bias, eps, *tables)

    def _eps_now(self) -> float | None:
        """None where it is not known any more which attribute is the eps."""
        values = {getattr(self.module, name) for name in self.eps_names} or {self.eps}
        return values.pop() if len(values) == 1 else None

    def made_for(self, x: Tensor) -> dict[str, Tensor] | None:
        """The parameters that the module never had; None where those it has do not fit the rows."""
        names = ("weight",) if self.cast is not None else ("weight", "bias")
        parameters = {name: self._parameter(name, x) for name in names}
        if self._eps_now() is None or any(each is None for each in parameters.values()):
            return None
        return {name: value for name, value in parameters.items() if name not in self._held}

    def _parameter(self, name: str, x: Tensor) -> Tensor | None:
        parameter = self.module._parameters.get(name)
        if parameter is None:
            return None if name in self._held else self._constant(name, x, _NEUTRAL[name])
        return parameter if _fits(parameter, x) else None

    def _constant(self, name: str, like: Tensor, value: float) -> Tensor:
        kind = (like.dtype, like.device)
        made = self._made.get(name)
        if made is None or made[0] != kind:
            with torch.inference_mode(False):
                made = (kind, like.new_full((like.shape[-1],), value, requires_grad=False))
            self._made[name] = made
        return made[1]


def are_trained(parameters: Mapping[str, Tensor | None]) -> bool:
    """Whether one of them is to get a gradient, which the fused operations do not give."""
    return torch.is_grad_enabled() and any(
        value is not None and value.requires_grad for value in parameters.values()
    )


def _fits(parameter: Tensor, x: Tensor) -> bool:
    """Whether a kernel can read it with the rows ``x``: alike, and all of it is here."""
    return (
        parameter.dtype is x.dtype
        and parameter.device == x.device
        and parameter.shape[0] == x.shape[-1]  # no shard of FSDP's
    )


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
    probe = _Probe(module, parameters, width, dtype)
    with torch.no_grad():
        matches = list(probe.matches()) if probe.usable() else []
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


class _Probe:
    """What a module makes of random rows, compared with the norms that the kernels know."""

    def __init__(
        self, module: nn.Module, parameters: dict[str, Tensor], width: int, dtype: torch.dtype
    ) -> None:
        self._module, self._dtype, self._names = module, dtype, frozenset(parameters)
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(96, width, generator=generator) + 0.3
        rows *= torch.logspace(-4, 2, 96)[:, None]
        place = next(iter(parameters.values()), None)
        device = place.device if place is not None else torch.device("cpu")
        random = 0.5 + torch.rand(2, width, generator=generator)
        self._rows, self._random = rows.to(device, dtype), random.to(device, dtype)
        self._given = {
            name: value
            for name, value in zip(("weight", "bias"), self._random, strict=True)
            if name in parameters
        }

    def usable(self) -> bool:
        """Whether the module turns rows into rows of the same shape and dtype."""
        try:
            self._wanted = torch.func.functional_call(
                _Unhooked(self._module),
                {f"module.{name}": value for name, value in self._given.items()},
                (self._rows.clone(),),
            )
        except Exception:  # whatever a module raises that is no norm
            return False
        wanted = self._wanted
        same = isinstance(wanted, Tensor) and wanted.shape == self._rows.shape
        return same and wanted.dtype == self._dtype

    def matches(self) -> Iterator[tuple[float, FusedNorm]]:
        """Every norm that fits, with the share of elements in which it differs."""
        held: dict[float, tuple[str, ...]] = {}
        for name, value in vars(self._module).items():
            if isinstance(value, float) and value >= 0:
                held[value] = (*held.get(value, ()), name)
        for eps in sorted(held.keys() | set(_USUAL_EPS)):
            names = held.get(eps, ())
            if "bias" not in self._names:
                yield from self._rms_matches(eps, names)
            yield from self._layer_matches(eps, names)

    def _rms_matches(
        self, eps: float, eps_names: tuple[str, ...]
    ) -> Iterator[tuple[float, FusedNorm]]:
        weight = self._random[0] if self._names else torch.ones_like(self._random[0])
        for cast in _RMS_CASTS if self._names else (Cast.LLAMA,):
            made = rms_norm(self._rows.float(), weight, eps, cast)
            distance = ulp_distance(made, self._wanted)
            if distance.max() <= MAX_ULP[self._dtype]:
                share = float((distance > 0).float().mean())
                yield share, FusedNorm(self._module, eps, cast, eps_names=eps_names)

    def _layer_matches(
        self, eps: float, eps_names: tuple[str, ...]
    ) -> Iterator[tuple[float, FusedNorm]]:
        weight, bias = self._random
        if "bias" not in self._names:
            bias = torch.zeros_like(bias)
        weights = {True: weight + 1, False: weight} if "weight" in self._names else {}
        for plus_one, w in (weights or {False: torch.ones_like(weight)}).items():
            rows = self._rows.float()
            made = layer_norm(rows, w, bias, eps)
            n = layer_norm(rows, torch.ones_like(w), torch.zeros_like(w), eps).float().abs()
            scale = w.float().abs() * (n + 1) + bias.float().abs()
            off = (made.float() - self._wanted.float()).abs()
            if (off <= _MAX_LAYER_NORM_ERROR * torch.finfo(self._dtype).eps * scale).all():
                share = float((made != self._wanted).float().mean())
                yield share, FusedNorm(self._module, eps, None, plus_one, eps_names)
