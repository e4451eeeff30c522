"""Which backend runs the row operations, chosen once, when a model is patched."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from emokernel.errors import BackendError


@dataclass(frozen=True)
class Backend:
    """One implementation of the operations of `emokernel.reference`.

    ``namespace`` of ``torch.ops`` is where they are (`emokernel.ops.schemas`), None where they are
    made of torch's own. ``fuses_compiled``: whether they compute norms under torch.compile too,
    which can do that itself. ``unavailable`` returns why the backend cannot run here, or None.
    """

    name: str
    device_types: tuple[str, ...]
    unavailable: Callable[[], str | None]
    namespace: str | None
    fuses_compiled: bool
    steer: Callable
    add_steer: Callable
    add_steer_rms_norm: Callable
    add_steer_layer_norm: Callable
    steer_rms_norm_: Callable

    def refusal(self, device: torch.device) -> str | None:
        """Why this backend cannot serve tensors on ``device``, or None."""
        if self.device_types and device.type not in self.device_types:
            return f"it serves {', '.join(self.device_types)} tensors only"
        return self.unavailable()


# Names in order of preference; each is a module of this package with a `BACKEND`. The last is
# correct anywhere, but slow.
BACKENDS = ("cpu", "cuda", "triton", "reference")


def load(name: str) -> Backend:
    """The backend called ``name``; BackendError if there is none."""
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
    return importlib.import_module(f"emokernel.ops.{name}").BACKEND


def available(device: torch.device | str = "cpu") -> dict[str, str | None]:
    """For every backend, None if it can serve ``device``, else the reason why not."""
    device = torch.device(device)
    return {name: load(name).refusal(device) for name in BACKENDS}


def select(device: torch.device | str, name: str | None = None) -> Backend:
    """The backend for ``device``: ``name``, else `EMOKERNEL_BACKEND`, else the first that can run.

    The reference is never chosen unless it is named. Raises BackendError for an unknown name, where
    a forced backend cannot run, and where none can.
    """
    device = torch.device(device)
    forced = name or os.environ.get("EMOKERNEL_BACKEND")
    if forced:
        backend = load(forced)
        refusal = backend.refusal(device)
        if refusal is not None:
            raise BackendError(f"backend {forced!r} cannot run on {device.type}: {refusal}")
        return backend
    refusals = []
    for candidate in BACKENDS[:-1]:
        refusal = load(candidate).refusal(device)
        if refusal is None:
            return load(candidate)
        refusals.append(f"{candidate}: {refusal}")
    raise BackendError(
        f"no backend runs on {device.type} here ({'; '.join(refusals)}); backend='reference' is"
        f" plain PyTorch: correct anywhere, but slow"
    )
