"""The torch operations: their schemas and their fake (meta) kernels, defined once here.

Four operations of `emokernel.reference` return fresh tensors. Those with a norm have a form
that writes into given ones too, `add_steer_rms_norm_out` and `add_steer_layer_norm_out`:
contiguous, and apart from all that is read.

The fifth, `steer_rms_norm_`, is for an engine whose own norm has run. It works in place and is the
only one that writes to the incoming residual, which there is the engine's own buffer: on entry y is
the rounded sum and normed what the engine made of it. Both contiguous, apart from each other and
from the tables. A row that no law changes is not written, and without a mix not even read.

`torch.ops.emokernel.*` has the compiled kernels, CPU and CUDA, and `torch.ops.emokernel_triton.*`
the Triton ones, so that both can be called on the same tensors; a backend only adds kernels for its
dispatch key.

They have no backward, and called directly they cannot refuse arguments that require a gradient, as
`emokernel.ops.registered` does (torch's stable interface does not show them), nor tell autograd
that y and normed have changed; so callers keep them under `torch.no_grad()`.
"""

from __future__ import annotations

import torch
from torch import Tensor

NAMESPACE = "emokernel"
TRITON_NAMESPACE = "emokernel_triton"
NORMS = ("add_steer_rms_norm", "add_steer_layer_norm")
IN_PLACE = "steer_rms_norm_"
OPERATIONS = ("steer", "add_steer", *NORMS, IN_PLACE)

_TABLES = "Tensor basis, Tensor token_slot, Tensor ids, Tensor weights, Tensor law"
_ROWS = "Tensor x, Tensor residual"
_RMS_NORM = f"{_ROWS}, Tensor weight, float eps, int cast, {_TABLES}"
_LAYER_NORM = f"{_ROWS}, Tensor weight, Tensor bias, float eps, {_TABLES}"
_GIVEN = "Tensor(a!) normed, Tensor(b!) y"
_CHANGED = "Tensor(a!) y, Tensor(b!) normed"
SCHEMAS = (
    f"steer(Tensor h, {_TABLES}) -> Tensor",
    f"add_steer({_ROWS}, {_TABLES}) -> Tensor",
    f"add_steer_rms_norm({_RMS_NORM}) -> (Tensor normed, Tensor y)",
    f"add_steer_rms_norm_out({_RMS_NORM}, *, {_GIVEN}) -> ()",
    f"add_steer_layer_norm({_LAYER_NORM}) -> (Tensor normed, Tensor y)",
    f"add_steer_layer_norm_out({_LAYER_NORM}, *, {_GIVEN}) -> ()",
    f"{IN_PLACE}({_CHANGED}, Tensor weight, float eps, int cast, {_TABLES}) -> ()",
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
        fakes = {"Tensor": _fake_y, "()": _fake_nothing}
        fake = fakes.get(schema.rpartition("-> ")[2], _fake_pair)
        torch.library.register_fake(f"{namespace}::{name}", fake, lib=library)


define(NAMESPACE)
define(TRITON_NAMESPACE)
