"""The Triton kernel as a compiler sees it, for GPUs that need not be here.

Every kernel is compiled from what the backend would pass to its launch, through Triton's own way
from arguments to a signature, so that what is proven here is what runs.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from row_cases import EPS, Case, make

from emokernel.ops import triton as backend
from emokernel.ops.schemas import IN_PLACE
from emokernel.reference import Cast

triton = pytest.importorskip(
    "triton", reason="triton is not installed: pip install 'emokernel[triton]'"
)
if backend.INTERPRETED:
    pytest.skip("nothing compiles where TRITON_INTERPRET is set", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource, make_backend  # noqa: E402
from triton.runtime.jit import create_function_from_signature  # noqa: E402

from emokernel.ops.triton_kernels import row_kernel  # noqa: E402

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
ADD, RMS, LAYER = "add_steer", "add_steer_rms_norm", "add_steer_layer_norm"
K = 8  # components, as the slots of emokernel.state hold them
# Registers of a thread. A multiprocessor has 65536: programs of up to 256 threads leave room for at
# least 512, of 512 threads two programs fit, and above 8192 columns one.
REGISTER_CEILING = {"steer": 64, ADD: 64, RMS: 80, LAYER: 96, IN_PLACE: 80}


def register_ceiling(operation: str, d: int) -> int:
    if d > 8192:
        return 128
    return REGISTER_CEILING[operation] if d <= 4096 else 64


TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def launched(operation: str, case: Case, cast: int = 0) -> tuple[int, tuple, dict]:
    """(rows, arguments, settings) that the backend launches its kernel with."""
    rows = (case.x,) if operation == "steer" else (case.x, case.residual)
    rms = case.weight, EPS, cast
    norm = {RMS: rms, IN_PLACE: rms, LAYER: (case.weight, case.weight, EPS)}
    calls = []

    def record(count: int, *arguments: object, **settings: object) -> None:
        calls.append((count, arguments, settings))

    with patch.object(backend, "launch", record), patch.object(backend, "INTERPRETED", True):
        backend.OPERATIONS[operation](*rows, *norm.get(operation, ()), *case.tables)
    (call,) = calls
    return call


def source(arch: int, arguments: tuple, settings: dict) -> tuple:
    """(options, signature, constants, attributes) of the kernel that a launch compiles."""
    target = make_backend(GPUTarget("cuda", arch, 32))
    bind = create_function_from_signature(row_kernel.signature, row_kernel.params, target)
    given = settings | {"debug": False}
    bound, specialization, options = bind(*arguments, **given)
    return row_kernel._pack_args(target, given, bound, specialization, options)


@dataclass(frozen=True)
class Compiled:
    ptx: str
    sass: str
    registers: int
    stack: int


@cache
def compiled(
    operation: str, d: int, dtype: torch.dtype, arch: int, cast: int = 0, wide_basis: bool = False
) -> Compiled:
    case = make(2, d, dtype, components=K, basis_dtype=FP32 if wide_basis else dtype)
    _, arguments, settings = launched(operation, case, cast)
    options, signature, constants, attributes = source(arch, arguments, settings)
    kernel = triton.compile(
        ASTSource(row_kernel, signature, constants, attributes),
        target=GPUTarget("cuda", arch, 32),
        options=options.__dict__,
    )
    cubin = _folder / "kernel.cubin"
    cubin.write_bytes(kernel.asm["cubin"])
    usage = _tool("cuobjdump", "-res-usage", str(cubin))
    numbers = {name: int(count) for name, count in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return Compiled(
        ptx=kernel.asm["ptx"],
        sass=_tool("cuobjdump", "--dump-sass", str(cubin)),
        registers=numbers["REG"],
        stack=numbers["STACK"] + numbers["LOCAL"],
    )


def _tool(name: str, *arguments: str) -> str:
    return subprocess.run(
        [str(TOOLS / name), *arguments], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture(scope="module", autouse=True)
def _cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    global _folder
    _folder = tmp_path_factory.mktemp("triton")
    with patch.dict("os.environ", {"TRITON_CACHE_DIR": str(_folder / "cache")}):
        yield


SHAPES = [
    ("steer", 4096, BF16, 90, 0, False),
    (ADD, 1024, BF16, 90, 0, False),
    (ADD, 16384, FP32, 90, 0, False),
    *((RMS, 4096, BF16, arch, 0, False) for arch in (80, 90, 100)),
    *((RMS, d, dtype, 90, 0, False)
      for d, dtype in ((1024, BF16), (4096, FP32), (5120, BF16), (8192, FP32), (16384, FP32))),
    *((LAYER, d, dtype, 90, 0, False)
      for d, dtype in ((1024, FP32), (4096, BF16), (5120, FP32), (16384, BF16), (16384, FP32))),
    *((LAYER, 8192, BF16, arch, 0, False) for arch in (80, 90, 100)),
    (RMS, 8192, FP16, 90, int(Cast.OLMO), False),
    (RMS, 8192, BF16, 90, int(Cast.VLLM), True),
    (RMS, 1000, BF16, 90, int(Cast.GEMMA), False),  # a multiple of a vector, but not of 16
    # the most that a thread has to hold at once
    *((RMS, 16384, BF16, arch, int(Cast.VLLM), False) for arch in (80, 90, 100)),
    (RMS, 16384, BF16, 90, int(Cast.VLLM), True),
    *((IN_PLACE, 4096, BF16, arch, int(Cast.VLLM), False) for arch in (80, 90, 100)),
    *((IN_PLACE, d, FP32, 90, 0, False) for d in (576, 5120, 16384)),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "d", "dtype", "arch", "cast", "wide_basis"), SHAPES)
def test_vector_mode(
    operation: str, d: int, dtype: torch.dtype, arch: int, cast: int, wide_basis: bool
) -> None:
    kernel = compiled(operation, d, dtype, arch, cast, wide_basis)
    loads = re.findall(r"\bld\.global[\w.:]*", kernel.ptx)
    scalars = 2  # token_slot, and the words of a slot, which the lanes of one warp read
    assert loads.count("ld.global.b32") == scalars
    assert loads.count("ld.global.v4.b32") == len(loads) - scalars > K
    assert set(re.findall(r"\bst\.global[\w.:]*", kernel.ptx)) == {"st.global.v4.b32"}
    assert re.search(r"LDG\.E\.[\w.]*128", kernel.sass)
    assert set(re.findall(r"STG\.E[\w.]*", kernel.sass)) == {"STG.E.128"}
    assert kernel.stack == 0
    assert not re.findall(r"\b(?:STL|LDL)\b", kernel.sass), "it spills"
    assert kernel.registers <= register_ceiling(operation, d)
    check_arithmetic(kernel)


@pytest.mark.parametrize("arch", [80, 90, 100])
def test_warps_agree_on_a_slot_before_they_branch(arch: int) -> None:
    """A slot may be rewritten meanwhile: warps that went by reads of their own could part."""
    ptx = compiled(RMS, 4096, BF16, arch).ptx
    loads = [match.end() for match in re.finditer(r"ld\.global\.b32", ptx)]
    branch = re.compile(r"@!?%p\d+ bra").search(ptx, loads[0]).start()
    assert loads[-1] < branch
    between = ptx[loads[-1] : branch]
    assert re.search(r"st\.shared.*bar\.sync.*ld\.shared", between, re.DOTALL)


@pytest.mark.parametrize("arch", [80, 90, 100])
def test_an_untouched_row_in_place_leaves_before_it_is_read(arch: int) -> None:
    ptx = compiled(IN_PLACE, 4096, BF16, arch, int(Cast.VLLM)).ptx
    read = re.search(r"ld\.global\.v4", ptx).start()
    (end,) = re.findall(r"\n(\$L__BB\w+):[^;]*\n\tret;", ptx)
    assert re.search(rf"\bbra\S* \t{re.escape(end)};", ptx[:read])


def check_arithmetic(kernel: Compiled) -> None:
    """All in fp32, nothing contracted, no subnormal flushed."""
    assert ".f64" not in kernel.ptx
    assert "fma.rn.f32" not in kernel.ptx
    assert ".ftz" not in kernel.ptx
    assert "sqrt.approx" not in kernel.ptx
    assert "div.full" not in kernel.ptx


@pytest.mark.parametrize(
    ("dtype", "d", "arch"), [(BF16, 1001, 80), (BF16, 1001, 90), (FP32, 3, 100)]
)
def test_scalar_mode(dtype: torch.dtype, d: int, arch: int) -> None:
    """Rows that start anywhere are never read or written more than an element at a time."""
    kernel = compiled(RMS, d, dtype, arch)
    assert not re.search(r"\b(?:ld|st)\.global\.[\w.]*v[248]", kernel.ptx)
    assert kernel.stack == 0
    check_arithmetic(kernel)


def odd_views(case: Case) -> Case:
    """The same problem in memory of other strides and another alignment."""

    def moved(rows: torch.Tensor) -> torch.Tensor:
        count, d = rows.shape
        room = torch.zeros(1 + count * (d + 1), dtype=rows.dtype)
        view = room[1:].view(count, d + 1)[:, :d]
        return view.copy_(rows)

    return replace(
        case,
        x=moved(case.x),
        residual=case.residual[:1].expand(case.x.shape),
        basis=moved(case.basis),
        token_slot=torch.stack([case.token_slot] * 2, 1)[:, 0],
        ids=moved(case.ids),
        weights=moved(case.weights),
        law=torch.stack([case.law] * 3, 1)[:, 2],
    )


@pytest.mark.parametrize("d", [64, 1000, 1001])
def test_one_variant_whatever_the_tensors(d: int) -> None:
    """Nothing compiles again for other numbers of rows, slots or vectors, strides or alignments."""
    few = make(1, d, BF16, components=K, slots=4, vectors=1)
    many = make(300, d, BF16, components=K, slots=500, vectors=48)
    cases = [few, many, odd_views(few), odd_views(many), many.rows(slice(1, 17))]
    calls = [launched(RMS, case) for case in cases]
    assert [rows for rows, _, _ in calls] == [1, 300, 1, 300, 16]
    variants = [source(90, arguments, settings) for _, arguments, settings in calls]
    assert all(variant == variants[0] for variant in variants)
    other = launched(RMS, many, Cast.GEMMA)
    assert source(90, *other[1:]) != variants[0]


def test_compiler_options() -> None:
    _, arguments, settings = launched(RMS, make(1, 4096, BF16, components=K))
    options, signature, _, attributes = source(90, arguments, settings)
    assert not options.enable_fp_fusion
    assert not any(attributes.values()), (
        "alignment is said in the kernel, not found in the arguments"
    )
    assert {kind for name, kind in signature.items() if name.endswith("_stride")} == {"i64"}
    assert signature["eps"] == "fp32"
