"""The compiled products as files: what they export and need, and what they say of themselves."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import torch

import emokernel
from emokernel import _build_info
from emokernel.ops.cpu import LIBRARY

needs_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="nm (binutils) is not installed")


def dynamic_symbols(*options: str) -> list[str]:
    lines = subprocess.run(
        ["nm", "-D", *options, str(LIBRARY)], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return [line.split()[-1] for line in lines]


@needs_nm
def test_library_knows_no_python() -> None:
    assert not [name for name in dynamic_symbols() if name.startswith(("Py", "_Py"))]


@needs_nm
def test_library_uses_the_stable_interface_only() -> None:
    """Of torch it takes C functions alone; a mangled name would bind it to one version."""
    needed = dynamic_symbols("--undefined-only")
    assert [name for name in needed if name.startswith(("aoti_torch_", "torch_"))]
    assert not [name for name in needed if "c10" in name or "5torch" in name or "2at" in name]


@needs_nm
def test_library_exports_its_selector_alone() -> None:
    own = [name for name in dynamic_symbols("--defined-only") if "emokernel" in name]
    assert own == ["emokernel_use_cpu_isa"]


def test_build_information() -> None:
    assert _build_info.version == emokernel.__version__
    assert _build_info.torch_target == "2.11"
    assert _build_info.compiler
    assert "-ffp-contract=off" in _build_info.flags
    assert "-march" not in _build_info.flags
    assert _build_info.torch_built_with.split(".")[0] == torch.__version__.split(".")[0]
    built, supported = _build_info.isas_built(), _build_info.isas_supported()
    assert built[0] == supported[0] == "portable"
    assert set(supported) <= set(built)
    assert _build_info.choose_isa() in supported


def test_levels_match_the_features_of_the_cpu() -> None:
    features = set(_build_info.cpu_features())
    assert ("avx2" in _build_info.isas_supported()) == ({"avx2", "fma", "f16c"} <= features)
    with open("/proc/cpuinfo") as file:
        flags = set(next(line for line in file if line.startswith("flags")).split())
    assert features <= flags
