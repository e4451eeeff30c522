"""Tensor and expert parallelism in two processes: steered once, and nothing more is said."""

from __future__ import annotations

import pytest
from parallel.comparison import check_against_one


@pytest.mark.parametrize(
    "scenario",
    [
        "tensor.llama", "tensor.gemma2", "tensor.qwen3", "tensor.qwen3_moe", "tensor.argument",
        "tensor.torch", "experts.tensor", "experts.sharded",
    ],
)  # fmt: skip
def test_the_spread_model_computes_what_one_process_does(scenario, found):
    for rank in found(scenario):
        check_against_one(rank)


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


@pytest.mark.parametrize("which", ["other vectors", "other options"])
def test_processes_that_patch_differently_are_refused(which, found):
    for rank in found("tensor.refused"):
        assert rank[which].startswith("SteeringError: the processes that share this model patch it")
        assert rank["afterwards"] == ""


def test_a_pipeline_is_refused_by_name(found):
    for rank in found("pipeline.refused"):
        assert "pipeline parallelism (pp_size)" in rank["model"]
