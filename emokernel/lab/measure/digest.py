"""A digest of weights, which tells whether two classifiers are one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import nn


def weights_digest(modules: Iterable[nn.Module]) -> str:
    """sha256 over the names, dtypes, shapes and bits of all parameters and buffers that are saved.

    It does not depend on where the weights were loaded from or on which device they are.
    """
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(f"{name} {value.dtype} {list(value.shape)} ".encode())
            bits = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(bits.numpy().tobytes())
    return digest.hexdigest()
