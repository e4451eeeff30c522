"""Tensor and expert parallelism in two processes: steered once, and nothing more is said."""

from __future__ import annotations

import pytest
import torch
from parallel.comparison import ALL, check_against_one
from parallel.experts import SIZED


@pytest.mark.parametrize(
    "scenario", ["tensor.gemma2", "tensor.qwen3_moe", "tensor.torch", "experts.tensor"]
)
def test_the_spread_model_computes_what_one_process_does(scenario, found):
    for rank in found(scenario):
        check_against_one(rank)


def test_it_does_so_at_both_sites_with_and_without_fused_norms(found):
    for rank in found("tensor.llama"):
        check_against_one(rank, ALL)


def test_it_does_so_in_bf16(found):
    for rank in found("tensor.bf16"):
        check_against_one(rank, tells=1)


def test_experts_and_shards_together_compute_what_one_process_does(found):
    if not SIZED:
        pytest.skip("needs a newer transformers, with DistributedConfig(ep_size=...)")
    for rank in found("experts.sharded"):
        check_against_one(rank)


def test_the_plan_may_be_an_argument_of_its_own(found):
    for rank, plain in zip(found("tensor.argument"), found("tensor.llama"), strict=True):
        assert torch.equal(rank["set"], plain["attention, fused: set"][1])


def test_steering_adds_no_communication(found):
    for rank in found("tensor.communication"):
        assert len(rank["unpatched forward"]) >= 6  # at least two for each of three layers
        for name, seen in rank.items():
            assert seen == rank[f"unpatched {name.split()[-1]}"], name
        assert len(rank) == 14


def test_a_branch_that_returns_a_partial_sum_is_refused(found):
    for rank in found("tensor.refused"):
        assert rank["partial"].startswith("ModelStructureError: block 0 of LlamaForCausalLM holds")
        assert "partial sum" in rank["partial"]


def test_sequence_parallelism_is_refused_by_name(found):
    for rank in found("tensor.refused"):
        assert "model.layers.0.input_layernorm of LlamaForCausalLM" in rank["sequence"]
        assert "sequence parallelism" in rank["sequence"]


@pytest.mark.parametrize("which", ["other vectors", "other options", "other site", "other layers"])
def test_processes_that_patch_differently_are_refused(which, found):
    for rank in found("tensor.refused"):
        assert rank[which].startswith("SteeringError: the processes that share this model patch it")
        assert rank["afterwards"] == ""


def test_a_pipeline_is_refused_by_name(found):
    for rank in found("pipeline.refused"):
        assert "pipeline parallelism (pp_size)" in rank["model"]
