"""A server that was asked to steer and cannot does not start; one that was not is let alone."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from engines.vllm.test_runner import Runner, Vectors
from engines.vllm.test_supported import config

from emokernel.engines.vllm import hooks, settings
from emokernel.errors import ModelStructureError, SteeringError

SAID = {"vectors": "v", "site": "block"}


class Named(Vectors):
    told = "joy, anger; site block"


@pytest.fixture(autouse=True)
def vllm(monkeypatch):
    """The two modules of vLLM that are asked; its version is the one that was tried."""
    made = SimpleNamespace(
        envs=ModuleType("vllm.envs"), version=ModuleType("vllm.version"), top=ModuleType("vllm")
    )
    made.envs.VLLM_USE_RUST_FRONTEND = False
    made.version.__version__ = "0.32.0+cpu"
    made.top.envs, made.top.version = made.envs, made.version
    for name, module in (("vllm", made.top), ("vllm.envs", made.envs),
                         ("vllm.version", made.version)):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(hooks, "version", lambda name: "1.2.3")
    # What is set while a server starts is gone with its test.
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in list(os.environ):
        if name.startswith(("EMOKERNEL_", "VLLM_")):
            del os.environ[name]
    return made


def a_config(additional, dtype=torch.bfloat16):
    made = config(scheduler_config=SimpleNamespace(max_num_seqs=8), additional_config=additional)
    runner = Runner().vllm_config.model_config
    vars(made.model_config).update(vars(runner), dtype=dtype)
    return made


def created(additional, vectors=None, change=lambda made: made):
    """The config that a server starts with, and the variables as vLLM's own code sees them."""
    args = SimpleNamespace(additional_config=additional)
    seen = []

    def create(given):
        assert given is args
        seen.append(os.environ.get("VLLM_USE_V2_MODEL_RUNNER"))
        return change(a_config(given.additional_config))

    made = hooks._create_config(lambda said: vectors or Named(), create, args)
    return made, seen


@pytest.mark.parametrize("additional", [{}, {"other": 1}, None])
def test_who_was_not_asked_starts_as_without_us(additional, vllm):
    vllm.version.__version__ = "9.9"
    made, seen = created(additional)
    assert made.additional_config == additional
    assert seen == [None]


def test_who_was_asked_has_a_compile_key_that_its_processes_read():
    made, seen = created({"emokernel": SAID, "other": 1})
    written = made.additional_config["emokernel"]
    assert seen == ["0"]  # before vLLM chooses a runner
    assert settings.is_compile_key(made.additional_config)
    assert made.additional_config["other"] == 1
    assert hooks.settings_of(made) == settings.read({"emokernel": SAID})
    assert written["compiled"] == {
        "version": "1.2.3", "site": "block", "layers": [1, 2, 3], "vectors": 2, "slots": 8,
        "components": 8, "dtype": "torch.bfloat16", "operation": "steer_rms_norm_",
        "backend": None,
    }  # fmt: skip


def test_variables_are_written_into_it():
    os.environ.update(EMOKERNEL_VLLM_VECTORS="v", EMOKERNEL_BACKEND="cpu")
    made, _ = created({})
    assert hooks.settings_of(made) == settings.read({"emokernel": {"vectors": "v"}})
    assert made.additional_config["emokernel"]["compiled"]["backend"] == "cpu"


def test_a_runner_that_was_chosen_is_not_chosen_anew():
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "1"
    assert created({"emokernel": SAID})[1] == ["1"]


@pytest.mark.parametrize(
    ("vectors", "change", "error", "message"),
    [
        (None, lambda made: vars(made).update(lora_config=1), SteeringError, "LoRA"),
        (Named(width=8), None, ModelStructureError, "the model has 4 of 16"),
        (Named(total=5), None, ModelStructureError, "the model has 4 of 16"),
        (None, lambda made: vars(made).update(additional_config="x"), SteeringError, "dictionary"),
    ],
)
def test_what_cannot_be_does_not_start(vectors, change, error, message, caplog):
    caplog.set_level("INFO", "vllm.emokernel")

    def changed(made):
        if change:
            change(made)
        return made

    with pytest.raises(error, match=message):
        created({"emokernel": SAID}, vectors, changed)
    assert "can be steered" not in caplog.text


@pytest.mark.parametrize(("exact", "form"), [(True, "exact"), (False, "fused")])
def test_a_server_that_starts_tells_what_it_steers_by(exact, form, caplog):
    with caplog.at_level("INFO", "vllm.emokernel"):
        created({"emokernel": {**SAID, "exact": exact}})
    assert caplog.messages == [f"Requests can be steered: joy, anger; site block; {form}"]


def test_a_version_that_was_not_tried_does_not_start(vllm):
    vllm.version.__version__ = "0.33.0"
    with pytest.raises(SteeringError, match=r"not with 0\.33\.0"):
        created({"emokernel": SAID})
    created({"emokernel": {**SAID, "any_version": True}})


def test_the_front_end_in_rust_does_not_start(vllm):
    vllm.envs.VLLM_USE_RUST_FRONTEND = True
    with pytest.raises(SteeringError, match="Rust"):
        created({"emokernel": SAID})


def worker(additional):
    return SimpleNamespace(
        vllm_config=a_config(additional), worker=SimpleNamespace(model_runner=Runner())
    )


def test_a_worker_steers_when_its_model_is_loaded():
    asked = worker(created({"emokernel": SAID})[0].additional_config)
    assert hooks._init_device(lambda said: Vectors(), lambda wrapper, one: one, asked, 1) == 1
    asked.worker.model_runner.load_model()
    assert hooks._worker_status(asked.worker) == {"of": "digest", "layers": [1, 2, 3]}


def test_a_worker_that_was_not_asked_is_let_alone():
    idle = worker({})
    hooks._init_device(pytest.fail, lambda wrapper: None, idle)
    assert "load_model" not in vars(idle.worker.model_runner)


def test_a_worker_of_a_config_that_nobody_looked_at_does_not_start():
    """Its compilation cache would know nothing of us."""
    with pytest.raises(SteeringError, match="was not made by EngineArgs"):
        hooks._init_device(pytest.fail, lambda wrapper: None, worker({"emokernel": SAID}))


def test_a_worker_looks_at_the_mode_as_well():
    asked = worker(created({"emokernel": SAID})[0].additional_config)
    asked.vllm_config.use_v2_model_runner = True
    with pytest.raises(SteeringError, match="model runner V2"):
        hooks._init_device(pytest.fail, lambda wrapper: None, asked)
