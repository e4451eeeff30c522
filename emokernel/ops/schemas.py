"""The torch operations `torch.ops.emokernel.*`: their schemas and their fake (meta) kernels.

Defined here once, whatever was built; a backend only adds kernels for its dispatch key. The three
operations of `emokernel.reference` exist in three forms:

    steer, add_steer, add_steer_rms_norm      functional: fresh outputs, for tracing
    steer_, add_steer_, add_steer_rms_norm_   in place: y overwrites the first argument
    steer_out, ...                            into given outputs, which may alias no input

They have no backward. A backend's functions refuse arguments that require a gradient while grad
mode is on; called directly, the operations cannot (torch's stable interface does not show a kernel
which tensors require one), so callers keep them under `torch.no_grad()`.
"""

from __future__ import annotations

import torch
from torch import Tensor

NAMESPACE = "emokernel"

_TABLES = "Tensor basis, Tensor token_slot, Tensor ids, Tensor weights, Tensor law"
_NORM = "Tensor weight, float eps, int cast"

SCHEMAS = (
    f"steer(Tensor h, {_TABLES}) -> Tensor",
    f"steer_(Tensor(a!) h, {_TABLES}) -> ()",
    f"steer_out(Tensor h, {_TABLES}, *, Tensor(a!) out) -> ()",
    f"add_steer(Tensor x, Tensor residual, {_TABLES}) -> Tensor",
    f"add_steer_(Tensor(a!) x, Tensor residual, {_TABLES}) -> ()",
    f"add_steer_out(Tensor x, Tensor residual, {_TABLES}, *, Tensor(a!) out) -> ()",
    f"add_steer_rms_norm(Tensor x, Tensor residual, {_NORM}, {_TABLES})"
    " -> (Tensor normed, Tensor y)",
    f"add_steer_rms_norm_(Tensor(a!) x, Tensor residual, {_NORM}, {_TABLES}) -> Tensor",
    f"add_steer_rms_norm_out(Tensor x, Tensor residual, {_NORM}, {_TABLES}, *,"
    " Tensor(a!) normed, Tensor(b!) y) -> ()",
)

# The library object owns the definitions: they vanish with it.
_library = torch.library.Library(NAMESPACE, "DEF")


def _fresh(like: Tensor) -> Tensor:
    return like.new_empty(like.shape)


def _fake_steer(h: Tensor, *_: object) -> Tensor:
    return _fresh(h)


def _fake_pair(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return _fresh(x), _fresh(x)


def _fake_nothing(*_: object, **__: object) -> None:
    return None


_FAKES = {
    "steer": _fake_steer,
    "add_steer": _fake_steer,
    "add_steer_rms_norm": _fake_pair,
    "add_steer_rms_norm_": _fake_steer,
}

for _schema in SCHEMAS:
    _name = _library.define(_schema)
    torch.library.register_fake(
        f"{NAMESPACE}::{_name}", _FAKES.get(_name, _fake_nothing), lib=_library
    )
