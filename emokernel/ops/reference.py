"""The reference backend: plain PyTorch on any device, and the form that autograd differentiates."""

from __future__ import annotations

from torch import Tensor

from emokernel import reference
from emokernel.ops.backends import Backend


def _steer_(h: Tensor, *tables: Tensor) -> None:
    h.copy_(reference.steer(h, *tables))


def _add_steer_(x: Tensor, residual: Tensor, *tables: Tensor) -> None:
    x.copy_(reference.add_steer(x, residual, *tables))


def _add_steer_rms_norm_(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, cast: int, *tables: Tensor
) -> Tensor:
    normed, y = reference.add_steer_rms_norm(x, residual, weight, eps, cast, *tables)
    x.copy_(y)
    return normed


BACKEND = Backend(
    name="reference",
    device_types=(),
    unavailable=lambda: None,
    steer=reference.steer,
    steer_=_steer_,
    add_steer=reference.add_steer,
    add_steer_=_add_steer_,
    add_steer_rms_norm=reference.add_steer_rms_norm,
    add_steer_rms_norm_=_add_steer_rms_norm_,
)
