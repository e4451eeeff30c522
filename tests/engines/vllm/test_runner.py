"""A runner as vLLM's V1: when its model is loaded it steers, and each step writes its rows."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engines.vllm.stand_ins import LAYERS, WIDTH, Model, served

from emokernel.engines.vllm.asked import KEY, KINDS, packed
from emokernel.engines.vllm.runner import steer_when_loaded
from emokernel.engines.vllm.settings import Settings
from emokernel.errors import ModelStructureError, SteeringError
from emokernel.state import Asked, Mix

SAID = Settings(vectors="v")
JOY, ANGER = Mix(((0, 1.0),)), Mix(((1, 1.0),))


class Vectors:
    """Of the stand-in, steered in all layers but the first."""

    profile, of = None, "digest"

    def __init__(self, site="block", layers=(1, 2, 3), width=WIDTH, total=LAYERS):
        self.site, self.layers = site, list(layers)
        self.tensor = torch.randn(total, 2, width, generator=torch.Generator().manual_seed(1))


def params(mix, kinds=KINDS[7]):
    given = packed(Asked(mix, kinds), "digest")
    return SimpleNamespace(extra_args=given and {KEY: given})


class Runner:
    """The names that a plugin may rely on."""

    def __init__(self, inner=None):
        self.inner = inner or Model()
        model_config = SimpleNamespace(
            dtype=torch.float32, get_total_num_hidden_layers=lambda: LAYERS,
            get_hidden_size=lambda: WIDTH,
        )  # fmt: skip
        self.vllm_config = SimpleNamespace(
            model_config=model_config, scheduler_config=SimpleNamespace(max_num_seqs=2)
        )
        self.device, self.max_num_tokens = "cpu", 8
        self.requests, self.log = {}, []
        self.input_batch = SimpleNamespace()
        self.loaded = None

    def load_model(self, *args, **kwargs):
        self.loaded = served(self.inner)
        return "loaded", args, kwargs

    def get_model(self):
        return self.loaded

    def _prepare_inputs(self, scheduler_output, num_scheduled_tokens):
        """Only here is the order of the batch settled."""
        ids = list(scheduler_output.order)
        self.input_batch.num_reqs = len(ids)
        self.input_batch.req_ids = [*ids, None]
        states = [self.requests[each] for each in ids]
        unused = [SimpleNamespace(computed=99, prompt=99)]
        for name, told in (
            ("num_computed_tokens_cpu", "computed"),
            ("num_prompt_tokens", "prompt"),
        ):
            values = [getattr(each, told) for each in states + unused]
            setattr(self.input_batch, name, np.array(values, np.int32))
        return "prepared"

    def _dummy_run(self, tokens, **kwargs):
        self.log.append(self.emokernel.rows.token_slot.tolist())
        return tokens, kwargs

    @contextmanager
    def synchronize_input_prep(self):
        self.log.append("prepared alone")
        yield

    def add(self, name, asked, prompt=1, computed=0):
        self.requests[name] = SimpleNamespace(
            sampling_params=asked, prompt=prompt, computed=computed
        )

    def step(self, order, tokens, new=()):
        """The slots of the rows of a step."""
        output = SimpleNamespace(order=order, scheduled_new_reqs=list(new))
        made = self._prepare_inputs(output, np.array(tokens, np.int32))
        assert made == "prepared"
        return self.emokernel.rows.token_slot.tolist()


def loaded(vectors=None, inner=None, said=SAID):
    runner = Runner(inner)
    steer_when_loaded(runner, said, lambda settings: vectors or Vectors())
    assert not hasattr(runner, "emokernel")
    assert runner.load_model(1, two=2) == ("loaded", (1,), {"two": 2})
    return runner


def kinds_of_rows(runner):
    """The mix whose records each row has, by the number of its vector."""
    _, ids, weights, _ = runner.emokernel.state.tables[1]
    slots = runner.emokernel.rows.token_slot.tolist()
    return [None if slot < 0 else int(ids[slot][weights[slot] != 0]) for slot in slots]


def test_it_steers_from_when_its_model_is_there():
    runner = loaded()
    assert (runner.emokernel.of, runner.emokernel.layers) == ("digest", [1, 2, 3])
    kinds = [type(layer.input_layernorm).__name__ for layer in runner.inner.layers]
    assert kinds == ["Norm", "Norm", "SteeredNorm", "SteeredNorm"]
    assert type(runner.inner.norm).__name__ == "SteeredNorm"
    kinds = {type(layer.post_attention_layernorm).__name__ for layer in runner.inner.layers}
    assert kinds == {"Norm"}


def test_a_stage_steers_what_it_holds():
    runner = loaded(Vectors("attention"), Model(0, 2))
    assert runner.emokernel.layers == [1]
    kinds = [type(layer.post_attention_layernorm).__name__ for layer in runner.inner.layers[:2]]
    assert kinds == ["Norm", "SteeredNorm"]


@pytest.mark.parametrize(("exact", "name"), [(True, "steer_rms_norm_"),
                                             (False, "add_steer_rms_norm")])  # fmt: skip
def test_the_operation_is_what_the_settings_say(exact, name):
    runner = loaded(said=Settings(vectors="v", exact=exact, backend="reference"))
    assert runner.inner.norm.steer_operation.__name__ == name


@pytest.mark.parametrize("vectors", [Vectors(width=8), Vectors(total=5)])
def test_vectors_of_another_model_are_refused(vectors):
    with pytest.raises(ModelStructureError, match=f"the model has {LAYERS} of {WIDTH}"):
        loaded(vectors)


@pytest.mark.parametrize("lacking", ["_prepare_inputs", "_dummy_run", "load_model", "get_model"])
def test_another_runner_is_refused(lacking):
    names = {"_prepare_inputs", "_dummy_run", "load_model", "get_model"} - {lacking}
    other = SimpleNamespace(**dict.fromkeys(names))
    with pytest.raises(SteeringError, match=r"use V1 \(VLLM_USE_V2_MODEL_RUNNER=0\)"):
        steer_when_loaded(other, SAID, pytest.fail)


def test_the_rows_follow_the_order_of_the_batch():
    runner = loaded()
    runner.add("a", params(JOY))
    runner.add("b", params(ANGER))
    runner.add("c", SimpleNamespace(extra_args=None))
    runner.step(["a", "b"], [2, 1], new="ab")
    assert kinds_of_rows(runner) == [0, 0, 1, *[None] * 5]
    runner.step(["b", "a"], [1, 2])  # nobody is new
    assert kinds_of_rows(runner) == [1, 0, 0, *[None] * 5]
    runner.step(["c", "b"], [3, 2], new="c")
    assert kinds_of_rows(runner) == [None, None, None, 1, 1, *[None] * 3]
    runner.step(["c"], [3])
    assert kinds_of_rows(runner) == [None] * 8
    runner.step(["b"], [1])
    assert kinds_of_rows(runner)[:2] == [1, None]


def test_a_request_that_is_said_anew_is_steered_anew():
    """Under its id and in its place, with other parameters: a session whose input is streamed."""
    runner = loaded()
    runner.add("a", params(JOY))
    runner.step(["a"], [2], new="a")
    runner.add("a", params(ANGER), prompt=5, computed=2)
    runner.step(["a"], [3], new="a")
    assert kinds_of_rows(runner) == [1] * 3 + [None] * 5


def test_where_the_prompt_ends_is_read_in_each_step():
    runner = loaded()
    runner.add("a", params(JOY, KINDS[4]), prompt=3)
    runner.step(["a"], [3], new="a")
    assert kinds_of_rows(runner) == [None] * 8
    runner.requests["a"].computed = 2
    runner.step(["a"], [3])
    assert kinds_of_rows(runner)[:4] == [None, 0, 0, None]


def test_a_run_of_no_request_steers_no_row_and_the_next_step_does():
    runner = loaded()
    runner.add("a", params(JOY))
    before = runner.step(["a"], [2], new="a")
    assert runner._dummy_run(4, uniform=True) == (4, {"uniform": True})
    assert runner.log == ["prepared alone", [-1] * 8]
    assert runner.step(["a"], [2]) == before


@torch.no_grad()
def test_what_is_steered_is_the_stream_behind_the_site():
    """The sum that the final norm sees moves by the vector of the last block."""
    vectors = Vectors(layers=[LAYERS - 1])
    runner, plain = loaded(vectors), Model()
    runner.add("a", SimpleNamespace(extra_args=None))
    add = Mix(((0, 0.5),), law=0)
    runner.add("b", params(add))
    runner.step(["a", "b"], [1, 1], new="ab")
    rows = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(4))
    seen = {}
    for name, model in (("steered", runner.inner), ("plain", plain)):
        model.norm.register_forward_hook(
            lambda module, args, out, name=name: seen.__setitem__(name, out)
        )
        model(None, torch.arange(2), None, rows.clone())
    (normed, stream), (was_normed, was) = seen["steered"], seen["plain"]
    assert torch.equal(stream[0], was[0])
    assert torch.equal(normed[0], was_normed[0])
    torch.testing.assert_close(stream[1], was[1] + 0.5 * vectors.tensor[LAYERS - 1, 0])
    torch.testing.assert_close(normed[1], plain.norm.normed(stream[1]))
