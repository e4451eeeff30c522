"""The cpu backend: the C++ kernels of csrc/, registered on `torch.ops.emokernel.*`.

The kernels are inference only. Where grad mode is on and an argument requires a gradient, every
function here raises RuntimeError instead of cutting the graph; `torch.ops.emokernel.*` called
directly cannot know (torch's stable interface does not tell), so there torch's own rule for an
operation without a backward holds.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, is_grad_enabled

from emokernel.ops import schemas
from emokernel.ops.backends import Backend

LIBRARY = Path(__file__).resolve().parent.parent / "libemokernel.so"
_BUILD = "build it with `pip install --no-build-isolation -e .` in the source folder"


def _load() -> str | None:
    """Loads the library; why it cannot run here, or None. Loading it again changes nothing."""
    if not LIBRARY.exists():
        return f"{LIBRARY.name} is not built: {_BUILD}"
    try:
        from emokernel import _build_info

        torch.ops.load_library(str(LIBRARY))
        _build_info.choose_isa()
    except ImportError as error:
        return f"the compiled part is not complete ({error}): {_BUILD}"
    except OSError as error:
        why = error.__cause__ or error
        return f"{LIBRARY.name} does not load with torch {torch.__version__} ({why}): {_BUILD}"
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None


_REASON = _load()

_ops = getattr(torch.ops, schemas.NAMESPACE)
_steer, _steer_ = _ops.steer.default, _ops.steer_.default
_add_steer, _add_steer_ = _ops.add_steer.default, _ops.add_steer_.default
_add_steer_rms_norm = _ops.add_steer_rms_norm.default
_add_steer_rms_norm_ = _ops.add_steer_rms_norm_.default


def _refuse_gradients(*tensors: Tensor) -> None:
    if any(tensor.requires_grad for tensor in tensors):
        raise RuntimeError(
            "the cpu backend has no gradient, and an argument requires one: use the reference"
            " backend, or torch.no_grad()"
        )


def steer(
    h: Tensor, basis: Tensor, token_slot: Tensor, ids: Tensor, weights: Tensor, law: Tensor
) -> Tensor:
    """`emokernel.reference.steer`: a fresh y for h ``[..., d]``."""
    if is_grad_enabled():
        _refuse_gradients(h, basis, weights)
    return _steer(h, basis, token_slot, ids, weights, law)


def steer_(
    h: Tensor, basis: Tensor, token_slot: Tensor, ids: Tensor, weights: Tensor, law: Tensor
) -> None:
    """`steer`, y over h."""
    if is_grad_enabled():
        _refuse_gradients(h, basis, weights)
    _steer_(h, basis, token_slot, ids, weights, law)


def add_steer(
    x: Tensor, residual: Tensor, basis: Tensor, token_slot: Tensor, ids: Tensor, weights: Tensor,
    law: Tensor,
) -> Tensor:  # fmt: skip
    """`emokernel.reference.add_steer`: a fresh y for x and residual ``[..., d]``."""
    if is_grad_enabled():
        _refuse_gradients(x, residual, basis, weights)
    return _add_steer(x, residual, basis, token_slot, ids, weights, law)


def add_steer_(
    x: Tensor, residual: Tensor, basis: Tensor, token_slot: Tensor, ids: Tensor, weights: Tensor,
    law: Tensor,
) -> None:  # fmt: skip
    """`add_steer`, y over x."""
    if is_grad_enabled():
        _refuse_gradients(x, residual, basis, weights)
    _add_steer_(x, residual, basis, token_slot, ids, weights, law)


def add_steer_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, cast: int, basis: Tensor,
    token_slot: Tensor, ids: Tensor, weights: Tensor, law: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`emokernel.reference.add_steer_rms_norm`: fresh (normed, y)."""
    if is_grad_enabled():
        _refuse_gradients(x, residual, weight, basis, weights)
    return _add_steer_rms_norm(x, residual, weight, eps, cast, basis, token_slot, ids, weights, law)


def add_steer_rms_norm_(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, cast: int, basis: Tensor,
    token_slot: Tensor, ids: Tensor, weights: Tensor, law: Tensor,
) -> Tensor:  # fmt: skip
    """`add_steer_rms_norm`, y over x; returns a fresh normed."""
    if is_grad_enabled():
        _refuse_gradients(x, residual, weight, basis, weights)
    return _add_steer_rms_norm_(
        x, residual, weight, eps, cast, basis, token_slot, ids, weights, law
    )


def describe() -> dict[str, object]:
    """What runs and how it was built; only ``unavailable`` where it cannot run."""
    if _REASON is not None:
        return {"unavailable": _REASON}
    from emokernel import _build_info

    return {
        "unavailable": None,
        "isa": _build_info.choose_isa(),
        "isas_built": _build_info.isas_built(),
        "isas_supported": _build_info.isas_supported(),
        "cpu_features": _build_info.cpu_features(),
        "compiler": _build_info.compiler,
        "flags": _build_info.flags,
        "torch_built_with": _build_info.torch_built_with,
        "torch_target": _build_info.torch_target,
        "threads": torch.get_num_threads(),
    }


BACKEND = Backend(
    name="cpu",
    device_types=("cpu",),
    unavailable=lambda: _REASON,
    steer=steer,
    steer_=steer_,
    add_steer=add_steer,
    add_steer_=add_steer_,
    add_steer_rms_norm=add_steer_rms_norm,
    add_steer_rms_norm_=add_steer_rms_norm_,
)
