"""What the tests of the operations run on: every backend that this machine can execute.

cpu              the compiled CPU kernels
cuda-on-host     the CUDA kernels, compiled as C++ against a shim (tests/cuda_on_host)
cuda, triton     on a GPU, where there is one
interpreted      the Triton kernels in Triton's interpreter, in a process of their own: set
                 TRITON_INTERPRET=1 (`make test` runs both)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType

import row_cases
import torch
from row_cases import WIDTHS, Case

from emokernel.ops import Backend, schemas
from emokernel.ops.backends import load
from emokernel.ops.registered import registered_backend

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HOST_NAMESPACE = "emokernel_on_host"
# The interpreter takes milliseconds for each row.
_FEW_WIDTHS = (1, 7, 64)
# Beyond what a block of threads keeps in registers, aligned and not.
_LONG_WIDTHS = (20008, 20011)


@dataclass(frozen=True)
class Target:
    """A backend, the torch operations behind it, and where its tensors live."""

    name: str
    backend: Backend
    ops: ModuleType
    device: torch.device
    widths: tuple[int, ...] = WIDTHS
    long_widths: tuple[int, ...] = ()
    many_rows: int = 4097

    @property
    def all_widths(self) -> tuple[int, ...]:
        return self.widths + self.long_widths

    @property
    def slow(self) -> bool:
        """Whether a test has to do with few rows."""
        return INTERPRETED

    def make(self, rows: int, d: int, dtype: torch.dtype = torch.float32, **options) -> Case:
        """`row_cases.make` on the device, the same numbers on each."""
        with torch.device("cpu"):
            case = row_cases.make(rows, d, dtype, **options)
        return case.to(self.device)


def names() -> list[str]:
    if INTERPRETED:
        return ["interpreted"]
    return ["cpu", "cuda-on-host"] + (["cuda", "triton"] if torch.cuda.is_available() else [])


def target(name: str) -> Target:
    cpu = torch.device("cpu")
    if name == "cuda-on-host":
        from cuda_on_host.build import library

        schemas.define(HOST_NAMESPACE)
        torch.ops.load_library(str(library()))
        backend = registered_backend(name, ("cpu",), lambda: None, HOST_NAMESPACE)
        ops = getattr(torch.ops, HOST_NAMESPACE)
        return Target(name, backend, ops, cpu, WIDTHS, _LONG_WIDTHS, many_rows=67)
    backend = load("triton" if name == "interpreted" else name)
    device = cpu if name in ("cpu", "interpreted") else torch.device("cuda", 0)
    refusal = backend.refusal(device)
    assert refusal is None, f"{name}: {refusal}"
    namespace = schemas.TRITON_NAMESPACE if backend.name == "triton" else schemas.NAMESPACE
    ops = getattr(torch.ops, namespace)
    if name == "interpreted":
        return Target(name, backend, ops, device, _FEW_WIDTHS, many_rows=13)
    long_widths = _LONG_WIDTHS if name == "cuda" else ()
    return Target(name, backend, ops, device, WIDTHS, long_widths)
