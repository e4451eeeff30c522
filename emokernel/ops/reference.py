"""The reference backend: plain PyTorch on any device."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from emokernel import reference
from emokernel.ops.backends import Backend


def _over_first(operation: Callable[..., Tensor]) -> Callable[..., None]:
    def in_place(x: Tensor, *arguments: object) -> None:
        x.copy_(operation(x, *arguments))

    return in_place


def _over_first_with_norm(operation: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    def in_place(x: Tensor, *arguments: object) -> Tensor:
        normed, y = operation(x, *arguments)
        x.copy_(y)
        return normed

    return in_place


BACKEND = Backend(
    name="reference",
    device_types=(),
    unavailable=lambda: None,
    namespace=None,
    fuses_compiled=False,
    steer=reference.steer,
    steer_=_over_first(reference.steer),
    add_steer=reference.add_steer,
    add_steer_=_over_first(reference.add_steer),
    add_steer_rms_norm=reference.add_steer_rms_norm,
    add_steer_rms_norm_=_over_first_with_norm(reference.add_steer_rms_norm),
    add_steer_layer_norm=reference.add_steer_layer_norm,
    add_steer_layer_norm_=_over_first_with_norm(reference.add_steer_layer_norm),
)
