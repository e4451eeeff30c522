"""The reference backend: plain PyTorch on any device."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from emokernel import reference
from emokernel.ops.backends import Backend
from emokernel.ops.schemas import NORMS, OPERATIONS


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


def _forms(name: str) -> dict[str, Callable]:
    operation = getattr(reference, name)
    over_first = _over_first_with_norm if name in NORMS else _over_first
    return {name: operation, f"{name}_": over_first(operation)}


BACKEND = Backend(
    name="reference",
    device_types=(),
    unavailable=lambda: None,
    namespace=None,
    fuses_compiled=False,
    **{form: function for name in OPERATIONS for form, function in _forms(name).items()},
)
