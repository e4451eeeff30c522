"""The cpu backend: the C++ kernels of csrc/, registered on `torch.ops.emokernel.*`."""

from __future__ import annotations

from pathlib import Path

import torch

from emokernel.ops import direct
from emokernel.ops.registered import load_library, registered_backend
from emokernel.ops.schemas import NAMESPACE

LIBRARY = Path(__file__).resolve().parent.parent / "libemokernel.so"
_BUILD = "build it with `pip install --no-build-isolation -e .` in the source folder"


def _load() -> str | None:
    """Loads the library; why it cannot run here, or None. Loading it again changes nothing."""
    reason = load_library(LIBRARY, _BUILD)
    if reason is None:
        try:
            from emokernel import _build_info

            _build_info.choose_isa()
        except ImportError as error:
            return f"the compiled part is not complete ({error}): {_BUILD}"
        except RuntimeError as error:
            return str(error).splitlines()[0]
    return reason


_REASON = _load()


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
        "calls": "direct" if direct.REASON is None else f"through torch.ops ({direct.REASON})",
        "threads": torch.get_num_threads(),
    }


# Measured (docs/compile.md): the norm that torch.compile makes costs less than the larger call.
BACKEND = registered_backend("cpu", ("cpu",), lambda: _REASON, NAMESPACE, fuses_compiled=False)
