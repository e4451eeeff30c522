"""Packages of extras: where they are missing, all else works, and what needs one says which."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from emokernel import EmokernelError, EmotionVectors, extras
from emokernel.affect import Coordinates
from emokernel.cli import main
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.lab.calibrate import calibrate
from emokernel.lab.judges import load_classifier
from emokernel.lab.report.positions_plot import plot_positions
from emokernel.lab.report.vectors_plot import plot_vectors

PYPROJECT = Path(extras.__file__).parent.parent / "pyproject.toml"
PACKAGES = (
    *extras._PURPOSES,
    "fastapi",
    "openai",
    "prometheus_client",
    "starlette",
    "triton",
    "uvicorn",
)

# None among the modules is how Python is told that there is no such package.
SCRIPT = f"""
import contextlib, importlib, io, json, pkgutil, sys

for package in {PACKAGES!r}:
    sys.modules[package] = None

import torch
from transformers import LlamaConfig, LlamaForCausalLM
import emokernel
from emokernel import EmotionVectors
from emokernel.cli import COMMANDS, main

def refused(call):
    try:
        call()
    except emokernel.EmokernelError as error:
        return str(error)

def run(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out, \\
            contextlib.redirect_stderr(io.StringIO()) as err, contextlib.suppress(SystemExit):
        main(list(arguments))
    return out.getvalue() + err.getvalue()

torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2,
)).eval()
ids = torch.tensor([[1, 2, 3]])
vectors = EmotionVectors.from_tensors(
    {{name: torch.randn(2, 16) for name in ("anger", "joy", "sadness")}}
)
for name, given in (("v.safetensors", {{}}), ("v.npz", {{}}), ("json", {{"site": vectors.site}})):
    vectors.save(name, format="json" if name == "json" else None)
    loaded = EmotionVectors.load(name, **given)
    assert torch.equal(loaded.tensor, vectors.tensor), name
with torch.no_grad():
    before = model(ids).logits
    for mapping in (None, "axes"):
        given = {{}} if mapping is None else {{"mapping": mapping}}
        steering = emokernel.patch(model, loaded, backend="reference", **given)
        for emotion in ("joy", {{"joy": 0.6, "anger": 0.3}}, emokernel.Affect(0.5, 0.5)):
            steering.set(emotion)
            assert not torch.equal(model(ids).logits, before)
        assert model.generate(ids, max_new_tokens=3, do_sample=False).shape[1] <= 6
        steering.unpatch()
    assert torch.equal(model(ids).logits, before)

with open("x.gguf", "wb") as file:
    file.write(b"GGUF and more")
told = {{
    "gguf": [
        refused(lambda: EmotionVectors.load("x.gguf")),
        refused(lambda: vectors.save("folder", format="gguf")),
    ],
    "info": run("info"),
    "help": {{command: run(command, "--help") for command in COMMANDS}},
    "serve": run("serve", "embedded", "--vectors", "v.safetensors"),
    "broken": [],
}}

def broken(name):
    raise

# The library of the operations is loaded by torch, not imported.
names = [module.name for module in pkgutil.walk_packages(emokernel.__path__, "emokernel.", broken)]
assert "emokernel.lab.judges.judge" in names
for name in names:
    if name != "emokernel.libemokernel":
        try:
            importlib.import_module(name)
        except ImportError as error:
            told["broken"].append(f"{{name}} {{error}}")
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("without")


@pytest.fixture(scope="module")
def told(folder):
    """What a process says in which none of the packages can be imported; it steers, too."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=folder, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture
def without_extras(monkeypatch):
    """The same in this process, for what looks for them when it is called."""
    for name in (*PACKAGES, *sys.modules):
        if name.partition(".")[0] in PACKAGES:
            monkeypatch.setitem(sys.modules, name, None)


def test_the_core_steers_and_keeps_its_files_without_them(told, folder):
    gguf = "reading or writing GGUF files needs gguf: pip install 'emokernel[lab]'"
    assert told["gguf"] == [gguf, gguf]
    assert not (folder / "folder").exists()
    assert "backend reference  available" in told["info"]


def test_all_modules_are_imported_and_all_commands_explain_themselves(told):
    for command, printed in told["help"].items():
        assert f"emokernel {command}" in printed
    # The kernels of Triton are of no use without it, nor is a server without what it is made of.
    names = {line.partition(" ")[0] for line in told["broken"]}
    alone = {name for name in names if not name.startswith("emokernel.serve.")}
    assert alone <= {"emokernel.ops.triton_kernels"}
    assert "emokernel.serve.fields" not in names


def test_serving_says_what_it_needs(told):
    assert "pip install 'emokernel[serve]'" in told["serve"]


COMMANDS = {
    "bench -o out": "matplotlib",
    "calibrate embedded --vectors nothing.safetensors -o out": "matplotlib",
    "demo --output out": "jinja2",
    "evaluate -o out": "jinja2",
    "extract embedded -o out": "sklearn",
    "extract embedded -o out --heldout 0 --method probe": "sklearn",
    "extract embedded -o out --heldout 0 --method pca": "scipy",
    "extract embedded -o out --heldout 0 --remove-neutral 0.5": "scipy",
    "extract embedded -o out --heldout 0 --queries hub:some/body": "datasets",
    "extract embedded -o out --plot out.png": "matplotlib",
    "show nothing.safetensors --plot out.png": "matplotlib",
    "show nothing.gguf": "gguf",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_say_what_they_need_before_they_begin(
    command, without_extras, tmp_path, monkeypatch, capsys
):
    """Before a model, a judge or vectors are loaded, and before anything is written."""

    def loaded(*_, **__):
        raise AssertionError("loaded")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", loaded)
    (tmp_path / "nothing.gguf").write_bytes(b"GGUF")
    assert main(command.split()) == 2
    assert capsys.readouterr().err == f"emokernel: {extras.missing(COMMANDS[command])}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["nothing.gguf"]


def test_what_the_lab_does_says_what_it_needs(without_extras):
    model, tokenizer = load_model()
    vectors, judge = load_vectors(), load_classifier("embedded-calibration")
    for package, call in (
        ("sklearn", lambda: EmotionVectors.extract(model, tokenizer, {"joy": ["yes"]}, ["no"])),
        ("sklearn", lambda: calibrate(model, tokenizer, vectors, judge=judge)),
        ("matplotlib", lambda: plot_vectors(vectors, "v.png")),
        ("matplotlib", lambda: plot_positions("v.png", vectors, Coordinates.named("russell"))),
    ):
        with pytest.raises(EmokernelError) as raised:
            call()
        assert str(raised.value) == extras.missing(package)


def test_a_package_that_lacks_something_itself_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "gguf.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gguf", raising=False)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name") as raised:
        extras.need("gguf")
    assert not isinstance(raised.value, EmokernelError)


@pytest.mark.skipif(not PYPROJECT.is_file(), reason="no source folder")
def test_the_extra_that_is_named_brings_them():
    brought = brought_by("lab")
    packages = {"sklearn": "scikit-learn", "scipy": "scikit-learn"}  # which needs scipy itself
    assert {packages.get(package, package) for package in extras._PURPOSES} <= brought


@pytest.mark.skipif(not PYPROJECT.is_file(), reason="no source folder")
def test_what_the_demo_is_set_up_with_is_all_that_it_needs():
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    pinned = {name_of(line) for line in (PYPROJECT.parent / "requirements.txt").open()}
    assert {*map(name_of, project["dependencies"]), *brought_by("demo")} <= pinned


def brought_by(extra):
    """The packages of an extra, and of those that it names."""
    offered = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    packages = set()
    for each in offered[extra]:
        more = re.fullmatch(r"emokernel\[(.*)\]", each)
        packages |= set().union(*map(brought_by, more[1].split(","))) if more else {name_of(each)}
    return packages


def name_of(requirement):
    return re.match(r"[\w-]*", requirement)[0]
