"""A decoder is steered at its norms only if each of them sees the stream, and is refused else."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from engines.vllm import stand_ins
from engines.vllm.stand_ins import LAYERS, WIDTH, IntermediateTensors, Model, of_layers, served
from torch import nn

from emokernel.engines.vllm.proof import decoder_of
from emokernel.errors import ModelStructureError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _vllm(monkeypatch):
    """The one class of vLLM that a stage of a pipeline is given."""
    sequence = ModuleType("vllm.sequence")
    sequence.IntermediateTensors = IntermediateTensors
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.sequence", sequence)


def proven(model, dtype=torch.float32):
    return decoder_of(model, WIDTH, dtype, CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inside", [None, "language_model"])
def test_a_decoder_like_llamas_is_taken(inside, dtype):
    inner = Model().to(dtype)
    parts = [dict(layer._modules) for layer in inner.layers]
    decoder = proven(served(inner, inside), dtype)
    assert (decoder.module, decoder.start, decoder.end, decoder.total) == (inner, 0, LAYERS, LAYERS)
    assert [dict(layer._modules) for layer in inner.layers] == parts  # and left as it was


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (of_layers(stand_ins.Granite), "a norm of block 1 sees another sum"),
        (of_layers(stand_ins.AddsBefore), "a norm of block 0 is given a sum that was made before"),
        (of_layers(stand_ins.ScaledAttention), "a norm of block 0 sees another sum"),
        (of_layers(stand_ins.Gemma2), "its blocks are made of self_attn, mlp, .*feedforward"),
        (of_layers(stand_ins.Parallel), "a norm of block 0 sees another sum"),
        (of_layers(stand_ins.OneNorm), "its blocks are made of self_attn, mlp, input_layernorm"),
        (of_layers(stand_ins.NoMlp), "its blocks are made of self_attn, input_layernorm"),
        (of_layers(stand_ins.MlpFirst), "a norm of block 0 sees another sum"),
        (of_layers(stand_ins.Swapped), "a norm of block 0 sees another sum"),
        (of_layers(stand_ins.Capped), "a norm of block 1 sees another sum"),
        (stand_ins.Deepstack, "a norm of block 2 sees another sum"),
        (stand_ins.NormOfBranch, "its final norm sees another sum"),
        (stand_ins.SkipsOne, "a norm of block 2 sees another sum"),
        (stand_ins.Backwards, "a norm of block 0 sees another sum"),
        (stand_ins.ScaledEmbedding, "a norm of block 0 sees another sum"),
    ],
    ids=lambda given: getattr(given, "__name__", None),
)
def test_a_decoder_of_another_kind_is_refused_with_the_reason(model, reason):
    inner = model()
    parts = [dict(layer._modules) for layer in inner.layers]
    with pytest.raises(ModelStructureError, match=rf"{reason}.*transformers \(emokernel serve\)"):
        proven(served(inner))
    assert [dict(layer._modules) for layer in inner.layers] == parts


@pytest.mark.parametrize("part", ["layers", "start_layer", "end_layer", "norm"])
def test_a_model_without_a_part_is_refused(part):
    inner = Model()
    delattr(inner, part)
    with pytest.raises(ModelStructureError, match="has no decoder that emokernel knows in vLLM"):
        proven(served(inner))


@pytest.mark.parametrize("model", [nn.Linear(2, 2), SimpleNamespace(model=None)])
def test_a_model_without_a_decoder_is_refused(model):
    with pytest.raises(ModelStructureError, match="has no decoder"):
        proven(model)


def test_a_decoder_without_blocks_is_refused():
    with pytest.raises(ModelStructureError, match="it has no blocks"):
        proven(served(Model(0, 0)))


STAGES = [(0, 2), (2, 3), (3, LAYERS), (1, LAYERS)]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_of_a_pipeline_is_taken(stage):
    decoder = proven(served(Model(*stage)))
    assert (decoder.start, decoder.end, decoder.total) == (*stage, LAYERS)
    assert decoder.last is (stage[1] == LAYERS)


@pytest.mark.parametrize("stage", [(0, 2), (1, 3)])
def test_a_stage_that_hands_on_another_sum_is_refused(stage):
    with pytest.raises(ModelStructureError, match="another sum to the next stage"):
        proven(served(stand_ins.Deepstack(*stage) if stage[1] == 2 else _LateAdd(*stage)))


class _LateAdd(Model):
    def block(self, number, positions, hidden, residual):
        hidden, residual = super().block(number, positions, hidden, residual)
        return (hidden, residual + 1) if number == self.end_layer - 1 else (hidden, residual)


def steered(inner, site):
    """{layer: the name of the norm that steers it}."""
    names = {id(module): name for name, module in inner.named_modules()}
    found = list(proven(served(inner)).norms(site))
    assert len(dict(found)) == len(found)
    return {layer: names[id(norm)] for layer, norm in found}


@pytest.mark.parametrize("stage", [(0, LAYERS), *STAGES])
def test_the_end_of_the_attention_is_steered_by_the_norm_behind_it(stage):
    assert steered(Model(*stage), "attention") == {
        layer: f"layers.{layer}.post_attention_layernorm" for layer in range(*stage)
    }


@pytest.mark.parametrize("stage", [(0, LAYERS), *STAGES])
def test_the_end_of_a_block_is_steered_by_the_next_norm_wherever_it_is(stage):
    start, end = stage
    wanted = {layer - 1: f"layers.{layer}.input_layernorm" for layer in range(max(start, 1), end)}
    if end == LAYERS:
        wanted[LAYERS - 1] = "norm"
    assert steered(Model(*stage), "block") == wanted


@pytest.mark.parametrize("site", ["attention", "block"])
def test_every_layer_is_steered_in_one_stage(site):
    layers = [layer for stage in STAGES[:3] for layer in steered(Model(*stage), site)]
    assert sorted(layers) == list(range(LAYERS))
