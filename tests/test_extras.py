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
    steering = emokernel.patch(model, vectors, backend="reference", mapping="axes")
    steering.set(emokernel.Affect(0.5, 0.5))
    assert not torch.equal(model(ids).logits, before)
    steering.unpatch()
    assert torch.equal(model(ids).logits, before)
refusal(lambda: EmotionVectors.load("x.gguf"))
refusal(lambda: vectors.save("folder", format="gguf"))
""",
        tmp_path,
    )
    gguf = "reading or writing GGUF files needs gguf: pip install 'emokernel[gguf]'"
    assert printed.splitlines() == [gguf, gguf]
    assert not (tmp_path / "folder").exists()


def test_all_modules_are_imported_and_all_commands_explain_themselves(tmp_path):
    printed = without_extras(
        """
import contextlib, importlib, io, pkgutil
import emokernel
from emokernel.cli import COMMANDS, main

def broken(name):
    raise

modules = pkgutil.walk_packages(emokernel.__path__, "emokernel.", broken)
# The library of the operations is loaded by torch, not imported.
names = [module.name for module in modules if module.name != "emokernel.libemokernel"]
assert "emokernel.demo.train.corpus" in names
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
for command in COMMANDS:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as told:
        main([command, "--help"])
    assert f"emokernel {command}" in told.getvalue()
""",
        tmp_path,
    )
    # Triton is an extra too, and its kernels are of no use without it.
    assert not [line for line in printed.splitlines() if "No module named 'triton'" not in line]


COMMANDS = {
    "bench -o out": "matplotlib",
    "calibrate embedded --vectors nothing.safetensors -o out": "matplotlib",
    "demo --output out": "matplotlib",
    "evaluate -o out": "matplotlib",
    "extract embedded -o out": "sklearn",
    "extract embedded -o out --heldout 0 --method probe": "sklearn",
    "extract embedded -o out --heldout 0 --method pca": "scipy",
    "extract embedded -o out --heldout 0 --remove-neutral 0.5": "scipy",
    "extract embedded -o out --heldout 0 --queries hub:some/body": "datasets",
    "extract embedded -o out --plot out.png": "matplotlib",
    "show nothing.safetensors --plot out.png": "matplotlib",
}


def test_commands_say_what_they_need_before_they_begin(tmp_path):
    """Before a model, a judge or vectors are loaded, and before anything is written."""
    printed = without_extras(
        f"""
import contextlib, io
from unittest.mock import patch
from transformers import PreTrainedModel
from emokernel.cli import main

for command in {list(COMMANDS)!r}:
    with contextlib.redirect_stderr(io.StringIO()) as told, \\
            patch.object(PreTrainedModel, "from_pretrained", side_effect=AssertionError("loaded")):
        assert main(command.split()) == 2
    print(told.getvalue(), end="")
""",
        tmp_path,
    )
    for line, (command, package) in zip(printed.splitlines(), COMMANDS.items(), strict=True):
        assert line.endswith(extras.missing(package)), command
    assert not list(tmp_path.iterdir())


def test_what_the_lab_does_says_what_it_needs(tmp_path):
    printed = without_extras(
        """
from emokernel import EmotionVectors
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.lab.calibrate import calibrate
from emokernel.lab.judges import load_classifier
from emokernel.lab.report.positions_plot import plot_positions
from emokernel.lab.report.vectors_plot import plot_vectors
from emokernel.affect import Coordinates

model, tokenizer = load_model()
vectors, judge = load_vectors(), load_classifier("embedded-calibration")
refusal(lambda: EmotionVectors.extract(model, tokenizer, {"joy": ["yes"]}, ["no"]))
refusal(lambda: calibrate(model, tokenizer, vectors, judge=judge))
refusal(lambda: plot_vectors(vectors, "v.png"))
refusal(lambda: plot_positions("v.png", vectors, Coordinates.named("russell")))
""",
        tmp_path,
    )
    needed = ["sklearn", "sklearn", "matplotlib", "matplotlib"]
    assert printed.splitlines() == [extras.missing(package) for package in needed]


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
