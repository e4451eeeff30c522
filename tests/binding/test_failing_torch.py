"""The binding where torch's own calls fail."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from torch.utils.cpp_extension import include_paths

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"


def test_every_call_of_torch_is_checked(tmp_path: Path) -> None:
    """What fails is named, and the tensor is given back all the same."""
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    system = [flag for path in include_paths() for flag in ("-isystem", path)]
    program = str(tmp_path / "failing_torch")
    sources = [str(HERE / "failing_torch.cpp"), str(CSRC / "binding" / "tensor.cpp")]
    flags = ["-std=c++17", "-DTORCH_TARGET_VERSION=0x020b000000000000", f"-I{CSRC}", *system]
    subprocess.run([*compiler, *flags, *sources, "-o", program], check=True)
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    gets = ("dim", "sizes", "strides", "dtype", "device_type", "device_index")
    *first, index = [f"get_{name} of an argument" for name in gets]
    expected = [*first, "is_contiguous", "data_ptr", "mutable_data_ptr", index, "empty_strided"]
    assert said.splitlines() == [f"emokernel: torch failed in {what}" for what in expected]
