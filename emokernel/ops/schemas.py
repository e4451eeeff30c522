"""The torch operations: their schemas and their fake (meta) kernels, defined once here.

The four operations of `emokernel.reference` exist in three forms:

    steer, add_steer, add_steer_rms_norm, add_steer_layer_norm    functional: fresh outputs
    steer_, add_steer_, ...          in place: y overwrites the first argument
    steer_out, add_steer_out, ...    into given outputs, which may alias no input

`torch.ops.emokernel.*` has the compiled kernels, CPU and CUDA, and `torch.ops.emokernel_triton.*`
the Triton ones, so that both can be called on the same tensors; a backend only adds kernels for its
dispatch key.

They have no backward. A backend's functions refuse arguments that require a gradient while grad
mode is on; called directly, the operations cannot (torch's stable interface does not show a kernel
which tensors require one), so callers keep them under `torch.no_grad()`.
"""

from __future__ import annotations

import torch
from torch import Tensor

NAMESPACE = "emokernel"
TRITON_NAMESPACE = "emokernel_triton"
OPERATIONS = ("steer", "add_steer", "add_steer_rms_norm", "add_steer_layer_norm")

_TABLES = "Tensor basis, Tensor token_slot, Tensor ids, Tensor weights, Tensor law"
_ROWS = {name: "Tensor{} x, Tensor residual" for name in OPERATIONS} | {"steer": "Tensor{} h"}
# What those that compute a norm too are given for it.
NORMS = {
    "add_steer_rms_norm": "Tensor weight, float eps, int cast, ",
    "add_steer_layer_norm": "Tensor weight, Tensor bias, float eps, ",
}


def _schemas(name: str) -> tuple[str, str, str]:
    """The functional, in-place and out schema of an operation."""
    norm = NORMS.get(name, "")
    arguments = f"{_ROWS[name]}, {norm}{_TABLES}"
    fresh = arguments.format("")
    results = "(Tensor normed, Tensor y)" if norm else "Tensor"
    outs = "Tensor(a!) normed, Tensor(b!) y" if norm else "Tensor(a!) out"
    return (
        f"{name}({fresh}) -> {results}",
        f"{name}_({arguments.format('(a!)')}) -> {'Tensor' if norm else '()'}",
        f"{name}_out({fresh}, *, {outs}) -> ()",
    )


SCHEMAS = tuple(schema for name in OPERATIONS for schema in _schemas(name))


def _fresh(like: Tensor) -> Tensor:
    return like.new_empty(like.shape)


def _fake_one(x: Tensor, *_: object) -> Tensor:
    return _fresh(x)


def _fake_pair(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return _fresh(x), _fresh(x)


def _fake_nothing(*_: object, **__: object) -> None:
    return None


def _fake(name: str) -> object:
    """What an operation returns: fresh tensors like its first argument, one, two or none."""
    if name in NORMS:
        return _fake_pair
    if name in OPERATIONS or name.removesuffix("_") in NORMS:
        return _fake_one
    return _fake_nothing


_libraries: dict[str, torch.library.Library] = {}


def define(namespace: str) -> None:
    """Defines the operations on ``torch.ops.<namespace>``, once."""
    if namespace in _libraries:
        return
    # The library object owns the definitions: they vanish with it.
    library = _libraries[namespace] = torch.library.Library(namespace, "DEF")
    for schema in SCHEMAS:
        name = library.define(schema)
        torch.library.register_fake(f"{namespace}::{name}", _fake(name), lib=library)


define(NAMESPACE)
define(TRITON_NAMESPACE)
