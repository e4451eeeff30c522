"""The torch operations: their schemas and their fake (meta) kernels, defined once here.

The four operations of `emokernel.reference` return fresh tensors. Those with a norm have a form
that writes into given ones too, `add_steer_rms_norm_out` and `add_steer_layer_norm_out`:
contiguous, and apart from all that is read.

`torch.ops.emokernel.*` has the compiled kernels, CPU and CUDA, and `torch.ops.emokernel_triton.*`
the Triton ones, so that both can be called on the same tensors; a backend only adds kernels for its
dispatch key.

They have no backward, and called directly they cannot refuse arguments that require a gradient, as
`emokernel.ops.registered` does (torch's stable interface does not show them), so callers keep them
under `torch.no_grad()`.
"""

from __future__ import annotations

import torch
from torch import Tensor

NAMESPACE = "emokernel"
TRITON_NAMESPACE = "emokernel_triton"
NORMS = ("add_steer_rms_norm", "add_steer_layer_norm")
OPERATIONS = ("steer", "add_steer", *NORMS)

_TABLES = "Tensor basis, Tensor token_slot, Tensor ids, Tensor weights, Tensor law"
_ROWS = "Tensor x, Tensor residual"
_RMS_NORM = f"{_ROWS}, Tensor weight, float eps, int cast, {_TABLES}"
_LAYER_NORM = f"{_ROWS}, Tensor weight, Tensor bias, float eps, {_TABLES}"
_GIVEN = "Tensor(a!) normed, Tensor(b!) y"
SCHEMAS = (
    f"steer(Tensor h, {_TABLES}) -> Tensor",
    f"add_steer({_ROWS}, {_TABLES}) -> Tensor",
    f"add_steer_rms_norm({_RMS_NORM}) -> (Tensor normed, Tensor y)",
    f"add_steer_rms_norm_out({_RMS_NORM}, *, {_GIVEN}) -> ()",
    f"add_steer_layer_norm({_LAYER_NORM}) -> (Tensor normed, Tensor y)",
    f"add_steer_layer_norm_out({_LAYER_NORM}, *, {_GIVEN}) -> ()",
)


def _fake_y(x: Tensor, *_: object) -> Tensor:
    return x.new_empty(x.shape)


def _fake_pair(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


def _fake_nothing(*_: object, **__: object) -> None:
    return None


_libraries: dict[str, torch.library.Library] = {}


def define(namespace: str) -> None:
    """Defines the operations on ``torch.ops.<namespace>``, once."""
    if namespace in _libraries:
        return
    # The library object owns the definitions: they vanish with it.
    library = _libraries[namespace] = torch.library.Library(namespace, "DEF")
    for schema in SCHEMAS:
        name = library.define(schema)
        fake = _fake_pair if name in NORMS else _fake_y if name in OPERATIONS else _fake_nothing
        torch.library.register_fake(f"{namespace}::{name}", fake, lib=library)


define(NAMESPACE)
define(TRITON_NAMESPACE)
