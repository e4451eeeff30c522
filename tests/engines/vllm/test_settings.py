"""What a server was asked to do, wherever it was said, and the key of what it compiles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from emokernel.engines.vllm.settings import Settings, compile_key, read
from emokernel.errors import SteeringError


def config(**said):
    return {"emokernel": said}


@pytest.mark.parametrize(
    "additional", [None, {}, {"other": 1}, {"emokernel": None}, {"emokernel": {}}, "no object"]
)
def test_who_says_nothing_is_not_steered(additional):
    assert read(additional) is None
    assert read(additional, {"PATH": "/bin", "EMOKERNEL_BACKEND": "cpu"}) is None


def test_what_is_said_is_read():
    said = read(config(vectors="v", layers=[2, 0], calibrated=False, exact=False, law="add"))
    assert said == Settings(vectors="v", layers=(2, 0), calibrated=False, exact=False, law="add")
    assert read(config(vectors="v")) == Settings(vectors="v")
    assert Settings(vectors="v").exact
    assert not Settings(vectors="v").any_version


def test_variables_say_the_same():
    said = read(None, {
        "EMOKERNEL_VLLM_VECTORS": "12", "EMOKERNEL_VLLM_LAYERS": "[1, 2]",
        "EMOKERNEL_VLLM_EXACT": "false", "EMOKERNEL_VLLM_CALIBRATED": "true",
        "EMOKERNEL_VLLM_SITE": "block", "VLLM_PLUGINS": "emokernel",
    })  # fmt: skip
    # A file may be called by a number.
    wanted = Settings(vectors="12", layers=(1, 2), exact=False, calibrated=True, site="block")
    assert said == wanted


def test_of_what_both_say_the_configuration_holds():
    environment = {"EMOKERNEL_VLLM_VECTORS": "a", "EMOKERNEL_VLLM_SITE": "block"}
    said = read(config(vectors="b", law="add"), environment)
    assert said == Settings(vectors="b", law="add", site="block")


@pytest.mark.parametrize(
    ("said", "variables", "message"),
    [
        ({"vector": "v", "sit": 1}, {}, "unknown settings of emokernel: sit, vector; it knows"),
        ({"vectors": "v"}, {"TYPO": "1"}, "unknown settings of emokernel: typo"),
        ({"site": "block"}, {}, "was given site, but no file of vectors"),
        ({}, {"LAW": "add"}, "was given law, but no file of vectors"),
        ({"vectors": ""}, {}, "no file of vectors"),
        ({}, {"VECTORS": ""}, "no file of vectors"),
        ({"vectors": None}, {}, "no file of vectors"),
        ({"vectors": 3}, {}, "vectors of emokernel needs a text, got 3"),
        ({"vectors": ["v"]}, {}, "vectors of emokernel needs a text"),
        ({"vectors": "v", "layers": 3}, {}, "layers of emokernel needs a list of layer numbers"),
        ({"vectors": "v", "layers": [1.0]}, {}, "layers of emokernel needs a list"),
        ({"vectors": "v", "layers": [True]}, {}, "layers of emokernel needs a list"),
        ({"vectors": "v", "layers": ["1"]}, {}, "layers of emokernel needs a list"),
        ({"vectors": "v", "exact": None}, {}, "exact of emokernel needs true or false, got None"),
        ({"vectors": "v", "exact": 1}, {}, "exact of emokernel needs true or false, got 1"),
        ({"vectors": "v", "calibrated": "yes"}, {}, "calibrated of emokernel needs true or false"),
        ({"vectors": "v", "law": True}, {}, "law of emokernel needs a text"),
        ({"vectors": "v"}, {"EXACT": "yes"}, "exact of emokernel needs true or false, got 'yes'"),
        ({"vectors": "v"}, {"LAYERS": "1"}, "layers of emokernel needs a list"),
    ],
)
def test_what_cannot_be_is_refused(said, variables, message):
    environment = {f"EMOKERNEL_VLLM_{name}": text for name, text in variables.items()}
    with pytest.raises(SteeringError, match=message):
        read({"emokernel": said}, environment)


@pytest.mark.parametrize("said", ["v", ["vectors"], 1, True])
def test_settings_are_an_object(said):
    with pytest.raises(SteeringError, match="no object with settings"):
        read({"emokernel": said})


def test_a_file_is_named_for_workers_in_other_folders(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read(config(vectors="mine")).vectors == str(tmp_path / "mine")
    assert read(config(vectors=str(tmp_path / "mine"))).vectors == str(tmp_path / "mine")
    assert read(config(vectors="not there")).vectors == "not there"  # its reader says so
    said = read(None, {"EMOKERNEL_VLLM_VECTORS": "mine"})
    assert Path(said.vectors).is_absolute()


SAID = Settings(vectors="v", layers=(0, 1), site="block")
KEY = {
    "version": "1", "site": "block", "layers": [0, 1], "vectors": 4, "slots": 8,
    "dtype": "torch.bfloat16", "backend": None,
}  # fmt: skip


def test_the_compile_key_is_json_and_read_again():
    key = compile_key(SAID, **KEY)
    assert read({"emokernel": json.loads(json.dumps(key))}) == SAID
    assert read({"emokernel": key}) == SAID


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2"}, {"site": "attention"}, {"layers": [0]}, {"vectors": 5}, {"slots": 9},
        {"dtype": "torch.float32"}, {"backend": "triton"},
    ],
)  # fmt: skip
def test_the_compile_key_holds_what_is_traced(change):
    assert compile_key(SAID, **{**KEY, **change}) != compile_key(SAID, **KEY)


def test_the_compile_key_holds_the_operation_and_how_many_components_there_are(monkeypatch):
    compiled = compile_key(SAID, **KEY)["compiled"]
    fused = compile_key(replace(SAID, exact=False), **KEY)["compiled"]
    assert (compiled["operation"], fused["operation"]) == ("steer_rms_norm_", "add_steer_rms_norm")
    monkeypatch.setattr("emokernel.engines.vllm.settings.MAX_COMPONENTS", 16)
    assert compile_key(SAID, **KEY)["compiled"] != compiled


def test_the_compile_key_does_not_hold_what_is_in_the_vectors(tmp_path):
    path = tmp_path / "vectors"
    keys = []
    for content in (b"one", b"two"):
        path.write_bytes(content)
        keys.append(compile_key(read(config(vectors=str(path))), **KEY))
    assert keys[0] == keys[1]
