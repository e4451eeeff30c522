"""The reference backend: plain PyTorch on any device."""

from __future__ import annotations

from emokernel import reference
from emokernel.ops.backends import Backend

BACKEND = Backend(
    name="reference",
    device_types=(),
    unavailable=lambda: None,
    namespace=None,
    fuses_compiled=False,
    steer=reference.steer,
    add_steer=reference.add_steer,
    add_steer_rms_norm=reference.add_steer_rms_norm,
    add_steer_layer_norm=reference.add_steer_layer_norm,
)
