"""Which backend is chosen, what it says of itself, and why one cannot run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from emokernel.errors import BackendError
from emokernel.ops import BACKENDS, available, cpu, cuda, select, triton


def test_the_cpu_backend_is_chosen_for_cpu_tensors() -> None:
    assert select("cpu") is cpu.BACKEND
    reasons = available("cpu")
    assert list(reasons) == list(BACKENDS)
    assert reasons["cpu"] is None
    assert reasons["reference"] is None
    assert "cuda tensors only" in reasons["cuda"]
    assert "cpu tensors only" in available("meta")["cpu"]


def test_forcing_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOKERNEL_BACKEND", "reference")
    assert select("cpu").name == "reference"
    assert select("cuda").name == "reference"
    assert select("cpu", "cpu").name == "cpu"
    monkeypatch.setattr(cpu, "_REASON", "it is broken")
    with pytest.raises(BackendError, match="backend 'cpu' cannot run on cpu: it is broken"):
        select("cpu", "cpu")
    with pytest.raises(BackendError, match="unknown backend 'fast': choose one of cpu, cuda"):
        select("cpu", "fast")


def test_cuda_comes_before_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: dict[str, str | None] = {"cuda": None, "triton": None}
    for module in (cuda, triton):
        name = module.BACKEND.name
        fake = type(module.BACKEND)(
            **{**vars(module.BACKEND), "device_types": ("cuda",),
               "unavailable": lambda name=name: reasons[name]}
        )  # fmt: skip
        monkeypatch.setattr(module, "BACKEND", fake)
    assert select("cuda").name == "cuda"
    reasons["cuda"] = "it is not built"
    assert select("cuda").name == "triton"
    reasons["triton"] = "it is not installed"
    with pytest.raises(BackendError) as error:
        select("cuda")
    assert "no backend runs on cuda here" in str(error.value)
    assert "cuda: it is not built" in str(error.value)
    assert "triton: it is not installed" in str(error.value)
    assert "backend='reference'" in str(error.value)


def test_devices_that_nothing_serves_are_refused() -> None:
    with pytest.raises(BackendError, match="no backend runs on meta here"):
        select("meta")


def test_reasons_of_the_cpu_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu, "LIBRARY", tmp_path / "libemokernel.so")
    assert "is not built: build it with `pip install" in cpu._load()
    (tmp_path / "libemokernel.so").write_bytes(b"not a library")
    assert "does not load with torch" in cpu._load()
    assert "invalid ELF header" in cpu._load() or "too short" in cpu._load()


def test_loading_the_cpu_library_again_is_harmless() -> None:
    assert cpu._load() is None
    torch.ops.load_library(str(cpu.LIBRARY))


def test_reasons_of_the_cuda_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without CUDA" in cuda._load()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda, "LIBRARY", tmp_path / "libemokernel_cuda.so")
    assert "is not built: build it with `EMOKERNEL_CUDA=1 pip install" in cuda._load()
    (tmp_path / "libemokernel_cuda.so").write_bytes(b"not a library")
    assert "does not load with torch" in cuda._load()


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        ([80, 90], (8, 0), True),
        ([80, 90], (8, 9), True),
        ([80, 90], (7, 5), False),
        ([80, 90], (12, 0), True),  # by the PTX of 9.0
        ([90], (8, 0), False),
        ([86, 90], (8, 0), False),
    ],
)
def test_which_gpus_a_build_serves(
    monkeypatch: pytest.MonkeyPatch, built: list[int], capability: tuple[int, int], runs: bool
) -> None:
    monkeypatch.setattr(cuda, "architectures", lambda: built)
    assert cuda._runs_on(capability) == runs


def test_descriptions() -> None:
    about = cpu.describe()
    assert about["isa"] in about["isas_supported"]
    assert set(about["isas_supported"]) <= set(about["isas_built"])
    assert about["threads"] == torch.get_num_threads()
    for module in (cuda, triton):
        assert module.describe()["unavailable"] == module.BACKEND.unavailable()
