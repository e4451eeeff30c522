"""A server in a mode in which rows would be steered wrongly does not start."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from emokernel.engines.vllm.settings import Settings
from emokernel.engines.vllm.supported import TRIED, check_config, check_version
from emokernel.errors import SteeringError

SAID = Settings(vectors="v")


def config(**changes):
    """vLLM's, as plain as it can be, but for ``changes`` by their path."""
    made = SimpleNamespace(
        parallel_config=SimpleNamespace(
            use_ubatching=False, prefill_context_parallel_size=1, decode_context_parallel_size=1,
            tensor_parallel_size=2, pipeline_parallel_size=2, enable_elastic_ep=False,
        ),
        model_config=SimpleNamespace(enable_sleep_mode=False, runner_type="generate"),
        speculative_config=None, kv_transfer_config=None, lora_config=None,
        use_v2_model_runner=False, weight_transfer_config=None,
    )  # fmt: skip
    for path, value in changes.items():
        *parents, name = path.split("__")
        owner = made
        for each in parents:
            owner = getattr(owner, each)
        setattr(owner, name, value)
    return made


def drafting(method):
    return {"speculative_config": SimpleNamespace(method=method)}


@pytest.mark.parametrize("changes", [{}, drafting("ngram"), drafting(None)])
def test_what_was_tried_is_let_through(changes):
    check_config(config(**changes), rust=False)


def test_a_front_end_without_plugins_is_refused():
    with pytest.raises(SteeringError, match="front end in Rust"):
        check_config(config(), rust=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"use_v2_model_runner": True}, "model runner V2"),
        ({"parallel_config__use_ubatching": True}, "micro-batches"),
        ({"parallel_config__prefill_context_parallel_size": 2}, "context parallelism"),
        ({"parallel_config__decode_context_parallel_size": 2}, "context parallelism"),
        ({"kv_transfer_config": SimpleNamespace()}, "KV transfer"),
        ({"model_config__enable_sleep_mode": True}, "sleep mode"),
        ({"lora_config": SimpleNamespace()}, "LoRA"),
        ({"parallel_config__enable_elastic_ep": True}, "elastic expert parallelism"),
        ({"weight_transfer_config": SimpleNamespace()}, "weights that change"),
        (drafting("eagle3"), "speculative decoding by eagle3: use ngram"),
        ({"model_config__runner_type": "pooling"}, "models that do not generate"),
    ],
)
def test_a_mode_that_is_not_for_us_is_refused_by_name(changes, reason):
    with pytest.raises(SteeringError, match=f"with {reason}.*: leave one of both out"):
        check_config(config(**changes), rust=False)


@pytest.mark.parametrize("version", [*TRIED, *(f"{each}+cpu" for each in TRIED)])
def test_a_tried_version_is_let_through(version):
    check_version(version, SAID)


@pytest.mark.parametrize("version", ["0.33.0", "0.32.0rc1", "0.32.01", "0.3", ""])
def test_another_version_has_to_be_forced(version):
    with pytest.raises(SteeringError, match=f'not with {version}.*"any_version": true'):
        check_version(version, SAID)
    check_version(version, Settings(vectors="v", any_version=True))
