"""Compiles the CUDA kernels and their binding as C++ against the shim of this folder."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths, library_paths

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CSRC = ROOT / "csrc"
FLAGS = [
    "-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno",
    "-DTORCH_TARGET_VERSION=0x020b000000000000",
    f"-I{HERE}", f"-I{CSRC}",
]  # fmt: skip


def _sources() -> list[tuple[Path, list[str]]]:
    """Every source with the flags of its own."""
    kernel = CSRC / "kernels" / "cuda_rows.cu"
    return [
        *((kernel, ["-x", "c++", f"-DEMOKERNEL_T={t}"]) for t in ("float", "Bf16", "Fp16")),
        (CSRC / "launchers" / "cuda_rows.cpp", []),
        *((CSRC / "binding" / f"{name}.cpp", []) for name in ("tensor", "checks", "call")),
        (HERE / "fibers.cpp", []),
    ]


def _digest() -> str:
    """Changes with every source, the torch that they are compiled for, and the flags."""
    files = [*CSRC.rglob("*"), *HERE.glob("*.cpp"), *HERE.glob("*.h")]
    content = b"".join(path.read_bytes() for path in sorted(files) if path.is_file())
    return hashlib.sha256(content + repr((FLAGS, torch.__version__)).encode()).hexdigest()[:16]


@cache
def library() -> Path:
    """The shared library; built unless it is there for these very sources."""
    path = ROOT / "build" / "cuda_on_host" / f"{_digest()}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            _link(path, Path(folder))
    return path


def _link(path: Path, folder: Path) -> None:
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    system = [flag for include in include_paths() for flag in ("-isystem", include)]

    def compile_source(job: tuple[int, tuple[Path, list[str]]]) -> str:
        number, (source, flags) = job
        out = str(folder / f"{number}.o")
        command = [*compiler, *FLAGS, *system, *flags, "-c", str(source), "-o", out]
        subprocess.run(command, check=True)
        return out

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        objects = list(pool.map(compile_source, enumerate(_sources())))
    found = [f"-L{place}" for place in library_paths()]
    made = folder / "library.so"
    subprocess.run(
        [*compiler, "-shared", *objects, *found, "-ltorch_cpu", "-Wl,-z,defs", "-o", str(made)],
        check=True,
    )
    made.rename(path)
