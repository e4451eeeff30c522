"""DistributedDataParallel, FSDP and nn.DataParallel."""

from __future__ import annotations

import pytest
import torch
from parallel.comparison import check_against_one
from parallel.models import vectors as of_the_tests
from torch import nn
from transformers import MambaConfig, MambaForCausalLM

from emokernel import patch
from emokernel.errors import ModelStructureError, SteeringError


@pytest.mark.parametrize("first", ["patch", "wrap"])
def test_each_process_of_ddp_has_requests_of_its_own(first, found):
    ranks = found(f"data.{first}")
    for rank in ranks:
        for alone, parallel in (rank["logits"], rank["gradients"]):
            torch.testing.assert_close(parallel, alone, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(rank["logits"][1], rank["other rank"], atol=1e-2)
    assert torch.equal(ranks[0]["gradients"][1], ranks[1]["gradients"][1])


def test_the_wrapper_of_ddp_is_refused_by_name(found):
    for rank in found("data.refused"):
        assert rank["wrapper"].startswith("ModelStructureError: DistributedDataParallel only wraps")


@pytest.mark.parametrize("scenario", ["plan", "whole first", "blocks first", "tail first"])
def test_a_model_that_fsdp_has_sharded_is_patched(scenario, found):
    for rank in found(f"sharded.{scenario}"):
        check_against_one(rank)


@pytest.mark.parametrize(
    "how",
    [
        "whole", "blocks", "tail", "nemotron", "FSDP1, whole, True", "FSDP1, whole, False",
        "FSDP1, blocks, True", "FSDP1, blocks, False",
    ],
)  # fmt: skip
def test_a_patched_model_may_be_sharded_and_trained(how, found):
    for rank in found(f"sharded.patch first, {how}"):
        for name, (alone, sharded) in rank.items():
            torch.testing.assert_close(sharded, alone, rtol=1e-5, atol=1e-5, msg=name)
        for name, other in {"set": "off", "after training": "set", "requests": "set"}.items():
            assert (rank[name][1] - rank[other][0]).abs().max() > 1e-2, name


def test_mixed_precision_of_fsdp_steers_in_the_dtype_of_the_rows(found):
    for rank in found("sharded.mixed"):
        check_against_one(rank, tells=1)


def test_rows_that_change_their_dtype_after_patching_are_refused(found):
    for rank in found("sharded.mixed late"):
        assert rank["model"].startswith("SteeringError: the residual stream is torch.bfloat16, but")


def test_what_fsdp1_has_flattened_is_refused_by_name(found):
    for rank in found("sharded.refused"):
        assert len(rank) == 8
        for name, error in rank.items():
            assert error.startswith("ModelStructureError: FullyShardedDataParallel has"), name


def test_data_parallel_on_one_device_runs_the_patched_model(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    with torch.no_grad():
        unset = model(prompts).logits
        steering.set("joy", 2.0)
        alone, parallel = model(prompts).logits, nn.DataParallel(model)(prompts).logits
    assert torch.equal(alone, parallel)
    assert not torch.allclose(alone, unset, atol=1e-2)


def test_data_parallel_cannot_copy_a_patched_model(tiny, vectors):
    model = tiny()
    steering = patch(model, vectors())
    with pytest.raises(SteeringError, match=r"nn\.DataParallel cannot copy a patched model"):
        replicate(model)
    steering.unpatch()
    assert len(replicate(model)) == len(list(model.modules()))


def replicate(model: nn.Module) -> list[nn.Module]:
    """As torch.nn.parallel.replicate begins, which wants GPUs for the rest."""
    return [module._replicate_for_data_parallel() for module in model.modules()]


def test_blocks_that_get_some_of_the_tokens_are_refused():
    config = MambaConfig(vocab_size=96, hidden_size=64, num_hidden_layers=3, pad_token_id=0)
    model = MambaForCausalLM(config)
    model.get_input_embeddings().register_forward_hook(lambda _, __, output: output[:, :2])
    for block in model.backbone.layers:
        block.register_forward_pre_hook(
            lambda _, args, kwargs: (args, kwargs | {"attention_mask": None}), with_kwargs=True
        )
    with pytest.raises(ModelStructureError, match=r"MambaForCausalLM get 2 of 5 tokens"):
        patch(model, of_the_tests("block"))
