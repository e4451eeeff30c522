"""Compiles the CUDA kernels and their binding as C++ against the shim of this folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths, library_paths

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CSRC = ROOT / "csrc"
BUILT = ROOT / "build" / "cuda_on_host"
FLAGS = [
    "-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno",
    "-DTORCH_TARGET_VERSION=0x020b000000000000", f"-I{HERE}",
]  # fmt: skip
# Every access to memory becomes a call, which search.cpp answers; no call gets a second place.
NOTED = ["-O1", "-fno-thread-jumps", "-fsanitize=thread"]
STREAM_TYPES = ("float", "Bf16", "Fp16")


@dataclass(frozen=True)
class Fault:
    """A fault put into the kernels: in a file of csrc/kernels, ``old`` becomes ``new``."""

    file: str
    old: str
    new: str


Job = tuple[Path, list[str]]  # a source and the flags of its own


def _kernels(csrc: Path, types: Sequence[str], flags: Sequence[str] = ()) -> list[Job]:
    kernel = csrc / "kernels" / "cuda_rows.cu"
    return [(kernel, [f"-I{csrc}", "-x", "c++", f"-DEMOKERNEL_T={t}", *flags]) for t in types]


def _cpu_kernels() -> list[Job]:
    """The portable ones, unoptimised: what the source reads twice is read twice."""
    level = ['-DEMOKERNEL_VEC="vec_portable.h"', "-DEMOKERNEL_ISA=portable"]
    return [(CSRC / "kernels" / "rows.cpp", [*level, *NOTED, "-O0"])]


def _plain(*sources: Path) -> list[Job]:
    return [(source, [f"-I{CSRC}"]) for source in sources]


def _digest(*extra: object) -> str:
    """Changes with every source, the torch that they are compiled for, and the flags."""
    files = [*CSRC.rglob("*"), *HERE.glob("*.cpp"), *HERE.glob("*.h")]
    content = b"".join(path.read_bytes() for path in sorted(files) if path.is_file())
    about = repr((FLAGS, NOTED, torch.__version__, extra))
    return hashlib.sha256(content + about.encode()).hexdigest()[:16]


@cache
def library() -> Path:
    """The shared library of the operations; built unless it is there for these very sources."""
    binding = [CSRC / "binding" / f"{name}.cpp" for name in ("tensor", "checks", "call")]
    return _built(
        BUILT / f"{_digest()}.so",
        [
            *_kernels(CSRC, STREAM_TYPES),
            *_plain(CSRC / "launchers" / "cuda_rows.cpp", *binding),
            *_plain(HERE / "fibers.cpp", HERE / "operations.cpp"),
        ],
        [*(f"-L{place}" for place in library_paths()), "-ltorch_cpu"],
    )


@cache
def searching_library(*faults: Fault) -> Path:
    """The library that searches for races (search.py); where faults are put into the CUDA kernels,
    of those for fp32 alone."""
    path = BUILT / f"{_digest(faults)}-searching.so"
    with tempfile.TemporaryDirectory() as folder:
        csrc = _with_faults(Path(folder), faults) if faults else CSRC
        return _built(
            path,
            [
                *_kernels(csrc, STREAM_TYPES[:1] if faults else STREAM_TYPES, NOTED),
                *([] if faults else _cpu_kernels()),
                *_plain(CSRC / "launchers" / "cuda_rows.cpp"),
                *_plain(HERE / "fibers.cpp", HERE / "search.cpp"),
            ],
        )


def _with_faults(folder: Path, faults: Sequence[Fault]) -> Path:
    """A copy of the sources with the faults in them."""
    csrc = folder / "csrc"
    shutil.copytree(CSRC, csrc)
    for fault in faults:
        path = csrc / "kernels" / fault.file
        text = path.read_text()
        if fault.old not in text:
            raise AssertionError(f"{fault.file} does not hold {fault.old!r} any more")
        path.write_text(text.replace(fault.old, fault.new))
    return csrc


def _built(path: Path, jobs: Sequence[Job], libraries: Sequence[str] = ()) -> Path:
    """Builds it unless it is there, or another process builds it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                _link(path, Path(folder), jobs, libraries)
    return path


def _link(path: Path, folder: Path, jobs: Sequence[Job], libraries: Sequence[str]) -> None:
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    system = [flag for include in include_paths() for flag in ("-isystem", include)]

    def compile_source(job: tuple[int, Job]) -> str:
        number, (source, flags) = job
        out = str(folder / f"{number}.o")
        command = [*compiler, *FLAGS, *system, *flags, "-c", str(source), "-o", out]
        subprocess.run(command, check=True)
        return out

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        objects = list(pool.map(compile_source, enumerate(jobs)))
    made = folder / "library.so"
    subprocess.run(
        [*compiler, "-shared", *objects, *libraries, "-Wl,-z,defs", "-o", str(made)],
        check=True,
    )
    made.rename(path)
