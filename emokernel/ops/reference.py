"""The reference backend: plain PyTorch on any device."""

from __future__ import annotations

from emokernel import reference
from emokernel.ops.backends import Backend
from emokernel.ops.schemas import OPERATIONS

BACKEND = Backend(
    name="reference",
    device_types=(),
    unavailable=lambda: None,
    namespace=None,
    fuses_compiled=False,
    **{name: getattr(reference, name) for name in OPERATIONS},
)
