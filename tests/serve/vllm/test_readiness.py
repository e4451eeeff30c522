"""Whether a server that is started here would steer: each line, well and not."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace

import pytest

from emokernel.serve.vllm import readiness

FOUND = EntryPoint("emokernel", "emokernel_vllm:register", "vllm.general_plugins")


@pytest.fixture
def vectors_file(vectors, tmp_path):
    path = tmp_path / "mine.safetensors"
    vectors().save(path)
    return str(path)


@pytest.fixture
def here(monkeypatch, vectors_file):
    """``here(said, environment, version, found)``: {what was looked at: (well, how it is)}."""

    def look(said=None, environment=None, version="0.32.0+cpu", found=(FOUND,)):
        said = {"vectors": vectors_file} if said is None else said
        made = ModuleType("vllm.version")
        made.__version__ = version
        monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
        monkeypatch.setitem(sys.modules, "vllm.version", made)
        there = lambda name: SimpleNamespace() if name != "vllm" or version else None  # noqa: E731
        monkeypatch.setattr(readiness, "find_spec", there)
        monkeypatch.setattr(readiness, "entry_points", lambda group: list(found))
        lines = list(readiness.checks({"emokernel": said} if said else {}, environment or {}))
        assert all(type(well) is bool for _, well, _ in lines)
        return {what: (well, how) for what, well, how in lines}

    return look


def test_a_server_that_would_steer_is_well_throughout(here):
    lines = here()
    assert list(lines) == ["vLLM", "plugin", "VLLM_PLUGINS", "vectors"]
    assert all(well for well, _ in lines.values())
    assert lines["vLLM"][1] == "0.32.0+cpu, tried"
    assert "emokernel_vllm:register" in lines["plugin"][1]
    told = lines["vectors"][1]
    assert told.startswith("anger, joy, sadness, surprise; site attention, layers 0-2; strength")


def test_variables_are_read_as_well(here, vectors_file):
    assert here({}, {"EMOKERNEL_VLLM_VECTORS": vectors_file})["vectors"][0]


@pytest.mark.parametrize(
    ("what", "given", "told"),
    [
        ("vLLM", {"version": None}, "not installed: see docs/vllm.md"),
        ("vLLM", {"version": "0.33.0"}, "not with 0.33.0"),
        ("plugin", {"found": ()}, "install emokernel with pip in vLLM's environment"),
        (
            "plugin",
            {"found": (EntryPoint("other", "other:register", "vllm.general_plugins"),)},
            "does not find it",
        ),
        ("VLLM_PLUGINS", {"environment": {"VLLM_PLUGINS": ""}}, "'': add emokernel to it"),
        ("VLLM_PLUGINS", {"environment": {"VLLM_PLUGINS": "a,b"}}, "add emokernel to it"),
        ("VLLM_PLUGINS", {"environment": {"VLLM_PLUGINS": "emokernel2"}}, "add emokernel to it"),
        ("front end", {"environment": {"VLLM_USE_RUST_FRONTEND": "1"}}, "unset VLLM_USE_RUST"),
        ("vectors", {"said": {}}, "none are said: give them in --additional-config"),
        ("vectors", {"said": {"vectors": "none/such"}}, "there is no file 'none/such'"),
        ("vectors", {"said": {"vector": "v"}}, "unknown settings of emokernel: vector"),
        ("vectors", {"said": {"site": "block"}}, "no file of vectors"),
        ("vectors", {"environment": {"EMOKERNEL_VLLM_LAW": "cubic"}}, "cubic"),
        ("vectors", {"said": {"vectors": __file__}}, "test_readiness.py"),
    ],
)
def test_what_is_not_well_is_told_alone(what, given, told, here):
    lines = here(**given)
    assert not lines[what][0]
    assert told in lines[what][1]
    assert [name for name, (well, _) in lines.items() if not well] == [what]


@pytest.mark.parametrize("said", ["emokernel", "a,emokernel,b"])
def test_a_plugin_that_is_named_is_well(said, here):
    assert here(environment={"VLLM_PLUGINS": said})["VLLM_PLUGINS"] == (True, f"{said!r} names it")


@pytest.mark.parametrize("said", ["", "0"])
def test_the_front_end_in_python_needs_no_line(said, here):
    assert "front end" not in here(environment={"VLLM_USE_RUST_FRONTEND": said})


def test_a_version_that_is_forced_is_told_as_such(here, vectors_file):
    lines = here({"vectors": vectors_file, "any_version": True}, version="0.40.1")
    assert lines["vLLM"] == (True, "0.40.1, not tried, forced")
