"""Where the kernels are not built: what installs, what works, and what is said."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import emokernel
from emokernel import machine
from emokernel.bench import memory
from emokernel.ops import cpu, cuda

ROOT = Path(emokernel.__file__).resolve().parent.parent
needs_source = pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="no source folder")

# What setuptools asks of the system it asks before, as it could not answer for another one.
SETUP = """
import setuptools.command.build_ext
import distutils.core, sys
sys.platform = {platform!r}
made = distutils.core.run_setup("setup.py", ["egg_info", "sdist"])
print("EXTENSIONS", bool(made.has_ext_modules()), made.get_name(), made.get_version())
"""


@needs_source
@pytest.mark.parametrize("platform", ["darwin", "win32", "linux"])
def test_metadata_is_made_on_every_system(platform, tmp_path):
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "emokernel").mkdir()
    shutil.copy(ROOT / "emokernel" / "__init__.py", tmp_path / "emokernel")
    script = SETUP.format(platform=platform)
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    built = platform == "linux"
    assert f"EXTENSIONS {built} emokernel {emokernel.__version__}" in ended.stdout
    assert ("built on Linux only" in ended.stderr) is not built
    assert (tmp_path / "emokernel.egg-info" / "PKG-INFO").is_file()
    assert list(tmp_path.glob("dist/*.gz"))


@pytest.fixture(scope="module")
def unbuilt(tmp_path_factory):
    """Runs Python code with a copy of the package that has no compiled part."""
    folder = tmp_path_factory.mktemp("unbuilt")
    shutil.copytree(
        ROOT / "emokernel", folder / "emokernel",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )  # fmt: skip

    def run(script: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, check=False,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )  # fmt: skip

    return run


def test_all_but_the_kernels_works(unbuilt):
    ended = unbuilt("""
import torch, emokernel
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
model, _ = load_model()
vectors = load_vectors()
vectors.save("v.safetensors")
assert emokernel.EmotionVectors.load("v.safetensors").names == vectors.names
ids = torch.tensor([[1, 20, 30]])
with torch.no_grad():
    before = model(ids).logits
    with_reference = emokernel.patch(model, vectors, backend="reference")
    with_reference.set("joy", 2.0)
    assert not torch.equal(model(ids).logits, before)
with_reference.unpatch()
try:
    emokernel.patch(model, vectors)
except emokernel.EmokernelError as error:
    print(error)
""")
    assert ended.returncode == 0, ended.stderr
    assert "libemokernel.so is not built: build it with" in ended.stdout
    assert "backend='reference' is plain PyTorch" in ended.stdout


def test_commands_say_it_and_those_that_steer_do_before_a_model_is_loaded(unbuilt):
    ended = unbuilt("""
import transformers
from emokernel.cli import main
from emokernel.demo.vectors import load_vectors

def loaded(*_, **__):
    raise AssertionError("a model was loaded")

load_vectors().save("v.safetensors")
transformers.PreTrainedModel.from_pretrained = loaded
assert main(["info"]) == 0
for command in ("calibrate embedded --vectors v.safetensors", "evaluate embedded", "bench embedded",
                "demo embedded"):
    assert main(command.split()) == 2, command
""")
    assert ended.returncode == 0, ended.stderr
    assert "backend cpu        libemokernel.so is not built: build it with" in ended.stdout
    assert "backend reference  available" in ended.stdout
    refused = [line for line in ended.stderr.splitlines() if line.startswith("emokernel: ")]
    assert len(refused) == 4
    assert all("no backend runs on cpu here" in line for line in refused)


@pytest.mark.parametrize("module", [cpu, cuda])
def test_other_systems_are_told_that_nothing_can_be_built_there(module, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "LIBRARY", tmp_path / "libemokernel.so")
    monkeypatch.setattr(module.torch.version, "cuda", "13.0")
    assert "build it with" in module._load()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "the kernels are built on Linux only so far; backend='reference'" in module._load()


def test_where_the_system_says_nothing_of_itself(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "none")
    assert memory.available_bytes(memory.torch.device("cpu")) == sys.maxsize
    monkeypatch.setattr(machine, "Path", lambda name: tmp_path / name.lstrip("/"))
    assert machine._cpu_model() == importlib.import_module("platform").machine()
