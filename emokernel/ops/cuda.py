"""The cuda backend: the CUDA C++ kernels of csrc/, registered on `torch.ops.emokernel.*`."""

from __future__ import annotations

from pathlib import Path

import torch

from emokernel.ops.registered import load_library, registered_backend
from emokernel.ops.schemas import NAMESPACE

LIBRARY = Path(__file__).resolve().parent.parent / "libemokernel_cuda.so"
_BUILD = (
    "build it with `EMOKERNEL_CUDA=1 pip install --no-build-isolation -e .` in the source folder,"
    " with nvcc in CUDA_HOME"
)


def _load() -> str | None:
    """Loads the library; why it cannot run with this torch, or None."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return load_library(LIBRARY, _BUILD)


_REASON = _load()


def architectures() -> list[int]:
    """What the library holds code for, as 10 * major + minor; of the last, PTX as well."""
    from emokernel import _build_info

    return [int(number) for number in _build_info.cuda_architectures.split()]


def _runs_on(capability: tuple[int, int]) -> bool:
    number = 10 * capability[0] + capability[1]
    built = architectures()
    return max(built) <= number or any(
        arch // 10 == capability[0] and arch <= number for arch in built
    )


def unavailable() -> str | None:
    """Why the backend cannot run here, or None."""
    if _REASON is not None:
        return _REASON
    if not torch.cuda.is_available():
        return "torch finds no GPU"
    for device in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(device)
        if not _runs_on(capability):
            return (
                f"{LIBRARY.name} holds no code for {torch.cuda.get_device_name(device)} (compute"
                f" capability {capability[0]}.{capability[1]}), only for {architectures()}"
            )
    return None


def describe() -> dict[str, object]:
    """What runs and how it was built; only ``unavailable`` where it cannot run."""
    reason = unavailable()
    if reason is not None:
        return {"unavailable": reason}
    from emokernel import _build_info

    return {
        "unavailable": None,
        "nvcc": _build_info.cuda_compiler,
        "architectures": [str(number) for number in architectures()],
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


BACKEND = registered_backend("cuda", ("cuda",), unavailable, NAMESPACE)
