"""What nvcc makes of the CUDA kernels, read off on a machine that need not have a GPU."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

KERNEL = Path(__file__).parents[2] / "csrc" / "kernels" / "cuda_rows.cu"
# With the virtual architecture of each: the source differs below 90 alone.
ARCHITECTURES = {80: 80, 90: 90, 100: 90}
TYPES = ("float", "Bf16", "Fp16")
# By (vectors per thread, wide, kept). A block has up to 1024 threads, which share 65536 registers.
MOST_REGISTERS = {
    (1, True, True): 40,
    (2, True, True): 64,
    (1, True, False): 64,
    (1, False, True): 56,
    (1, False, False): 64,
}


def _tool(name: str) -> str | None:
    """A program of the CUDA toolkit, or of those that triton brings along."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    found = shutil.which(name) or shutil.which(name, path=f"{home}/bin")
    triton = importlib.util.find_spec("triton")
    if found is None and triton is not None:
        folder = Path(triton.submodule_search_locations[0]) / "backends" / "nvidia" / "bin"
        found = shutil.which(name, path=str(folder))
    return found


NVCC, CUOBJDUMP = _tool("nvcc"), _tool("cuobjdump")
pytestmark = pytest.mark.skipif(
    NVCC is None, reason="nvcc is not installed: what the CUDA kernels compile to is NOT checked"
)


@dataclass(frozen=True)
class Kernel:
    """One compiled kernel: what it is made for, and what ptxas says of it."""

    arch: int
    stream: str
    vectors: int
    wide: bool
    kept: bool
    registers: int
    spilled: int
    sass: str

    def __str__(self) -> str:
        kind = f"{'wide' if self.wide else 'scalar'}, {'kept' if self.kept else 'computed anew'}"
        return f"sm_{self.arch} {self.stream} x {self.vectors}, {kind}: {self.registers} registers"


def _nvcc(source: Path, out: Path, *flags: str) -> str:
    """What it says."""
    command = [NVCC, "-std=c++17", "-O3", "-fmad=false", *flags, str(source), "-o", str(out)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def _compile(ptx: Path, arch: int) -> tuple[str, Path]:
    """(What ptxas said, the machine code)."""
    cubin = ptx.with_suffix(f".{arch}.cubin")
    return _nvcc(ptx, cubin, f"-arch=sm_{arch}", "-cubin", "-Xptxas=-v"), cubin


def _sass(cubin: Path) -> dict[str, str]:
    """The machine code of each kernel in a file, by its mangled name."""
    if CUOBJDUMP is None:
        return {}
    dump = subprocess.run(
        [CUOBJDUMP, "--dump-sass", str(cubin)], check=True, capture_output=True, text=True
    ).stdout
    parts = re.split(r"Function : (\S+)", dump)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _kernels(arch: int, stream: str, log: str, cubin: Path) -> Iterator[Kernel]:
    sass = _sass(cubin)
    entries = re.split(r"Compiling entry function '(\S+)'", log)[1:]
    for name, said in zip(entries[::2], entries[1::2], strict=True):
        vectors, wide, kept = re.search(r"Li(\d)ELb(\d)ELb(\d)E", name).groups()
        spills = [int(number) for number in re.findall(r"(\d+) bytes spill", said)]
        yield Kernel(
            arch, stream, int(vectors), wide == "1", kept == "1",
            int(re.search(r"Used (\d+) registers", said).group(1)),
            sum(spills), sass.get(name, ""),
        )  # fmt: skip


@pytest.fixture(scope="module")
def ptx(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Path]:
    """By virtual architecture and stream dtype."""
    folder = tmp_path_factory.mktemp("ptx")
    jobs = list(product(sorted(set(ARCHITECTURES.values())), TYPES))
    made = {(virtual, stream): folder / f"{stream}-{virtual}.ptx" for virtual, stream in jobs}

    def compile_one(job: tuple[int, str]) -> None:
        virtual, stream = job
        flags = (f"-arch=compute_{virtual}", "-ptx", f"-DEMOKERNEL_T={stream}")
        _nvcc(KERNEL, made[job], *flags)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, jobs))
    return made


@pytest.fixture(scope="module")
def kernels(ptx: dict[tuple[int, str], Path]) -> list[Kernel]:
    jobs = list(product(ARCHITECTURES, TYPES))
    sources = [ptx[ARCHITECTURES[arch], stream] for arch, stream in jobs]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = list(pool.map(_compile, sources, [arch for arch, _ in jobs]))
    return [
        kernel
        for (arch, stream), (log, cubin) in zip(jobs, made, strict=True)
        for kernel in _kernels(arch, stream, log, cubin)
    ]


def test_every_kernel_compiles_for_every_architecture(kernels: list[Kernel]) -> None:
    made = {(k.arch, k.stream, k.vectors, k.wide, k.kept) for k in kernels}
    assert made == {(a, t, *kind) for a in ARCHITECTURES for t in TYPES for kind in MOST_REGISTERS}


def test_nothing_spills(kernels: list[Kernel]) -> None:
    assert not [str(kernel) for kernel in kernels if kernel.spilled]


def test_registers_leave_room_for_other_blocks(kernels: list[Kernel]) -> None:
    over = [k for k in kernels if k.registers > MOST_REGISTERS[k.vectors, k.wide, k.kept]]
    assert not [str(kernel) for kernel in over]


needs_cuobjdump = pytest.mark.skipif(
    CUOBJDUMP is None,
    reason="cuobjdump is in neither a CUDA toolkit nor triton: machine code is NOT read",
)


@needs_cuobjdump
def test_wide_kernels_move_sixteen_bytes_at_a_time(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        wide_loads = len(re.findall(r"\bLDG\.E(?:\.\w+)*\.128", kernel.sass))
        wide_stores = len(re.findall(r"\bSTG\.E(?:\.\w+)*\.128", kernel.sass))
        narrow = re.findall(r"\b(?:LDG|STG)\.E(?:\.\w+)*\.U16", kernel.sass)
        stores = len(re.findall(r"\bSTG\.", kernel.sass))
        if kernel.wide:
            assert wide_loads >= 4 * kernel.vectors, str(kernel)  # x, residual, basis, weight
            assert wide_stores == stores >= 2 * kernel.vectors, str(kernel)
            assert not narrow, str(kernel)
        else:
            assert not wide_loads + wide_stores, str(kernel)


@needs_cuobjdump
def test_a_slot_is_read_once(kernels: list[Kernel]) -> None:
    """token_slot, law, an id and a weight: beside vectors of a row nothing else is loaded."""
    for kernel in kernels:
        if kernel.wide:
            loads = re.findall(r"\bLDG\.E(?!\S*\.128)", kernel.sass)
            assert len(loads) == 4, str(kernel)


@needs_cuobjdump
def test_no_local_memory_and_no_fp64(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        assert kernel.sass, str(kernel)
        assert not re.search(r"\b(LDL|STL)\b", kernel.sass), str(kernel)
        assert not re.search(r"\b(DADD|DMUL|DFMA)\b", kernel.sass), str(kernel)


@needs_cuobjdump
def test_dependent_launch_from_hopper_on(kernels: list[Kernel]) -> None:
    """Every kernel that may start early waits for its inputs."""
    for kernel in kernels:
        assert ("ACQBULK" in kernel.sass) == (kernel.arch >= 90), str(kernel)


@pytest.mark.parametrize("stream", TYPES)
def test_products_and_sums_round_apart(ptx: dict[tuple[int, str], Path], stream: str) -> None:
    """A contracted multiply-add would round once where the specification rounds twice."""
    text = ptx[90, stream].read_text()
    assert "mul.f32" in text or "mul.rn.f32" in text
    assert "fma.rn" not in text
    assert ".f64" not in text
    assert "sqrt.rn.f32" in text
    assert "sqrt.approx" not in text
    assert "div.approx" not in text
