"""Packages of extras: where they are missing, all else works, and what needs one says which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emokernel import EmokernelError, extras

PYPROJECT = Path(extras.__file__).parent.parent / "pyproject.toml"

# None among the modules is how Python is told that there is no such package.
WITHOUT = f"""
import sys
for package in {sorted(extras._EXTRAS)!r}:
    sys.modules[package] = None
from emokernel import EmokernelError

def refusal(call):
    try:
        call()
    except EmokernelError as error:
        print(error)
"""


def without_extras(script: str, folder: Path) -> str:
    """What ``script`` prints where none of the packages can be imported."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT + script],
        capture_output=True, text=True, cwd=folder, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_core_steers_and_keeps_its_files_without_them(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF and more")
    printed = without_extras(
        """
import torch
from transformers import LlamaConfig, LlamaForCausalLM
import emokernel
from emokernel import EmotionVectors

torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2,
)).eval()
ids = torch.tensor([[1, 2, 3]])
made = EmotionVectors.from_tensors({n: torch.randn(2, 16) for n in ("joy", "anger", "sadness")})
made.save("v.safetensors")
vectors = EmotionVectors.load("v.safetensors")
assert torch.equal(vectors.tensor, made.tensor)
with torch.no_grad():
    before = model(ids).logits
    steering = emokernel.patch(model, vectors, backend="reference")
    for emotion in ("joy", {"joy": 0.6, "anger": 0.3}, emokernel.Affect(0.5, 0.5)):
        steering.set(emotion)
        assert not torch.equal(model(ids).logits, before)
    steering.unpatch()
    assert torch.equal(model(ids).logits, before)
refusal(lambda: EmotionVectors.load("x.gguf"))
refusal(lambda: vectors.save("folder", format="gguf"))
refusal(lambda: emokernel.patch(model, vectors, backend="reference", mapping="axes"))
""",
        tmp_path,
    )
    gguf = "reading or writing GGUF files needs gguf: pip install 'emokernel[gguf]'"
    axes = "fitting axes, probes or a calibration needs sklearn: pip install 'emokernel[lab]'"
    assert printed.splitlines() == [gguf, gguf, axes]
    assert not (tmp_path / "folder").exists()


def test_pictures_say_what_they_need(tmp_path):
    printed = without_extras(
        """
import importlib
for module in ("vectors", "affect"):
    refusal(lambda: importlib.import_module(f"emokernel.{module}.plots"))
""",
        tmp_path,
    )
    needed = "drawing a picture needs matplotlib: pip install 'emokernel[lab]'"
    assert printed.splitlines() == [needed] * 2


def test_a_package_that_lacks_something_itself_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "gguf.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gguf", raising=False)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name") as raised:
        extras.need("gguf")
    assert not isinstance(raised.value, EmokernelError)


@pytest.mark.skipif(not PYPROJECT.is_file(), reason="no source folder")
def test_every_extra_that_is_named_exists():
    text = PYPROJECT.read_text("utf-8")
    section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    named = {line.partition(" =")[0] for line in section.splitlines() if " =" in line}
    assert {extra for _, extra in extras._EXTRAS.values()} <= named
