"""The state of small networks as the package stores it: tables in 8 bits, the rest in fp16."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def packed(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The tensors to store for a state dict, their names behind `prefix`.

    A table [rows, width] becomes 8-bit integers and one fp32 scale for each row, in a tensor of
    its own whose name ends in "/scale"; anything else becomes fp16.
    """
    tensors = {}
    for name, value in state.items():
        if value.ndim != 2:
            tensors[prefix + name] = value.half()
            continue
        scale = (value.abs().amax(1, keepdim=True) / 127).clamp_min(1e-8)
        tensors[prefix + name] = (value / scale).round().to(torch.int8)
        tensors[f"{prefix}{name}/scale"] = scale.float()
    return tensors


def unpacked(
    tensors: Mapping[str, Tensor], names: Iterable[str], prefix: str = ""
) -> dict[str, Tensor]:
    """The state dict of these names in fp32 from what `packed` gave."""

    def value(key: str) -> Tensor:
        stored = tensors[key].float()
        return stored * tensors[f"{key}/scale"] if f"{key}/scale" in tensors else stored

    return {name: value(prefix + name) for name in names}
