"""The published formulas of projects that hook blocks of transformers, from what they compute.

Each gets the rounded rows h. Products, sums and norms are in the dtype that the project has them
in, since that is where it rounds; torch rounds each of these operations once. Where one accepts
vectors of several dtypes, it is given what its own loading makes of an fp32 vector.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emokernel.bench.numerics.formula import (
    ADD,
    BATCH,
    PRESERVE,
    RELATIVE,
    ROTATE,
    SHRINK,
    Formula,
    Given,
)


def _scaled(given: Given) -> Tensor:
    """round(weight * e): the strength is multiplied in fp32, then one rounding to the stream."""
    return (given.weight * given.vector).to(given.dtype)


def _rounded_twice(given: Given) -> Tensor:
    """round(weight * round(e)): the vector is held in the stream's dtype and scaled there."""
    return given.weight * given.vector.to(given.dtype)


def _norm(rows: Tensor) -> Tensor:
    """``[rows, 1]``, accumulated in fp32 by torch, rounded to the rows' own dtype."""
    return rows.norm(dim=-1, keepdim=True)


def _control_vector(given: Given) -> Tensor:
    """y = h + v * mask; all in the stream's dtype, masked rows are added a product with zero."""
    return given.h + _scaled(given) * given.mask()


def _control_vector_normalised(given: Given) -> Tensor:
    """y = t / |t| * |h|: two rounded norms, a rounded quotient and product; masked rows as well."""
    h, t = given.h, _control_vector(given)
    return t / _norm(t) * _norm(h)


def _fp32_hook(given: Given) -> Tensor:
    """y = h + mask * v with mask and vector in fp32: torch promotes; the copy back rounds once."""
    delta = given.mask().float() * (given.weight * given.vector)
    return (given.h + delta).to(given.dtype)


def _rms_steering(given: Given) -> Tensor:
    """y = h + round(c * e / rms(e) * rms(h)), both rms in fp32 and with an eps of 1e-6.

    rms(h) is of the last row of the sequence: here each row is a sequence of its own.
    """
    direction = given.vector.to(given.dtype)
    size = (direction.float().square().mean(-1, keepdim=True) + 1e-6).sqrt()
    unit = direction / (size + 1e-6)  # fp32
    rms = (given.h.float().square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return given.h + (given.weight * unit * rms).to(given.dtype)


def _added(given: Given) -> Tensor:
    """y = h + round(weight * e)."""
    return given.h + _scaled(given)


def _added_rounded_twice(given: Given) -> Tensor:
    """y = h + round(weight * round(e)): vector and product are rounded, then the sum."""
    return given.h + _rounded_twice(given)


def _operator_add(given: Given) -> Tensor:
    """y = h + round(a * round(e)) with a the strength in the stream's dtype, rounded as well."""
    strength = torch.tensor(given.weight, dtype=given.dtype)
    rows = given.h + strength * given.vector.to(given.dtype)
    return torch.where(given.mask() != 0, rows, given.h)


def _operator_add_relative(given: Given) -> Tensor:
    """As `_operator_add` with a = round(ratio * |h|), the norm in fp32, of a unit direction."""
    unit = (given.vector / given.vector.norm()).to(given.dtype)
    strength = (_norm(given.h.float()) * given.weight).to(given.dtype)
    return torch.where(given.mask() != 0, given.h + strength * unit, given.h)


def _masked_add(given: Given) -> Tensor:
    """y = h + mask * round(weight * e), in the stream's dtype."""
    return given.h + given.mask() * _scaled(given)


def _norms_that_grew(given: Given) -> Tensor:
    """Rows longer than before: y = t * round(|h| / (|t| + 1e-8)), all in the stream's dtype.

    ValueError if the sum is not finite.
    """
    h, t = given.h, _masked_add(given)
    if not t.isfinite().all():
        raise ValueError("NaN or Inf after the transform")
    before, after = _norm(h), _norm(t)
    return t * torch.where(after > before, before / (after + 1e-8), torch.ones_like(after))


def _ratio_of_norms(given: Given) -> Tensor:
    """y = t * round(|h| / |t|) of all rows of the batch if one of them grew; the stream's dtype."""
    h, t = given.h, _added(given)
    before, after = _norm(h), _norm(t)
    grew = (after / before).max().item() > 1
    return t * (before / after) if grew or not t.isfinite().all() else t


def _slerp(given: Given) -> Tensor:
    """|h| times the slerp of h/|h| towards the unit vector, all in the stream's dtype."""
    unit = (given.vector / (given.vector.norm() + 1e-8)).to(given.dtype)
    h = given.h
    norm = _norm(h)
    direction = h / norm
    angle = torch.arccos((direction * unit).sum(-1, keepdim=True))
    kept = torch.sin((1 - given.weight) * angle) / torch.sin(angle)
    turned = torch.sin(given.weight * angle) / torch.sin(angle)
    return (kept * direction + turned * unit) * norm


_REPENG = "repeng 0.4.0, repeng/control.py, ControlModule.forward"
_REPSTEER = "repsteer 0.2.4, repsteer/operators/add.py, Add.apply"
_AISTEER = "AISteer360 1d7c843, aisteer360/algorithms/state_control/_common/transforms/"
_CAST = "activation-steering 52be602, activation_steering/leash_layer.py, LeashLayer"
_LITE = "steering-lite 75d0cff, src/steering_lite/variants/"

HOOKED = (
    Formula("repeng", ADD, _REPENG, _control_vector, masks=True),
    Formula("repeng, normalize", PRESERVE, _REPENG, _control_vector_normalised, masks=True),
    Formula(
        "steering-vectors", ADD,
        "steering-vectors 0.12.2, steering_vectors/steering_vector.py, _create_additive_hook",
        _fp32_hook, masks=True,
    ),
    Formula("llm-steer", RELATIVE, "llm-steer 2.0.1, llm_steer.py, Steer", _rms_steering),
    Formula(
        "hidden-directions", ADD,
        "hidden-directions 0.1.6, hidden_directions/sweep.py, _make_hook; bake.py", _added,
    ),
    Formula("repsteer", ADD, _REPSTEER, _operator_add, masks=True),
    Formula(
        "repsteer, NormRelative", RELATIVE, f"{_REPSTEER}; schedules/norm.py, NormRelative.value",
        _operator_add_relative, masks=True,
    ),
    Formula(
        "steerkit", ADD, "steerkit 0.3.0, steerkit/intervention.py, apply_addition",
        _added_rounded_twice,
    ),
    Formula(
        "saklas", ADD, "saklas 5.3.0, saklas/core/hooks.py, SteeringHook.hook_fn (a push)", _added
    ),
    Formula(
        "persona-vectors", ADD,
        "persona_vectors d7020a1 (dxnlp's copy), activation_steer.py, ActivationSteerer._hook_fn",
        _added_rounded_twice,
    ),
    Formula(
        "steering-lite", ADD, f"{_LITE}mean_diff.py, MeanDiff.apply", _added_rounded_twice
    ),
    Formula("steering-lite, spherical", ROTATE, f"{_LITE}spherical.py, Spherical.apply", _slerp),
    Formula(
        "AISteer360", ADD, f"{_AISTEER}additive.py, AdditiveTransform.apply", _masked_add,
        masks=True,
    ),
    Formula(
        "AISteer360, NormPreserving", SHRINK,
        f"{_AISTEER}norm_preserving.py, NormPreservingTransform.apply", _norms_that_grew,
        masks=True,
    ),
    Formula("CAST", ADD, f"{_CAST}._apply_single_behavior", _added),
    Formula(
        "CAST, OOI normalization", BATCH, f"{_CAST}._apply_ooi_normalization", _ratio_of_norms
    ),
)  # fmt: skip
