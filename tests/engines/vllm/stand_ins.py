"""Decoders in plain torch, of the shape that vLLM gives to its own, and ways to differ from it."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from emokernel.reference import Cast, rms_norm

WIDTH, LAYERS = 16, 4


class Norm(nn.Module):
    """vLLM's fused add and norm: ``norm(x)``, or (normed, sum) of ``norm(x, residual)``."""

    def __init__(self, cast: Cast = Cast.VLLM, width: int = WIDTH, dtype=torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.rand(width, generator=generator).add(0.5).to(dtype))
        self.variance_epsilon, self.cast = 1e-6, cast

    def forward(self, x: Tensor, residual: Tensor | None = None):
        if residual is None:
            return self.normed(x.float())
        y = x + residual
        exact = x.float() + residual.float() if self.cast is Cast.VLLM else y.float()
        return self.normed(exact), y

    def normed(self, rows: Tensor) -> Tensor:
        return rms_norm(rows, self.weight, self.variance_epsilon, self.cast)


class Attention(nn.Module):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.o_proj = nn.Linear(width, width)
        self.q_norm = nn.Identity()

    def forward(self, positions: Tensor, hidden_states: Tensor) -> Tensor:
        return self.o_proj(hidden_states)


class Mlp(nn.Linear):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__(width, width)


class Layer(nn.Module):
    """Llama's."""

    norm = Norm

    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(), Mlp()
        self.input_layernorm, self.post_attention_layernorm = self.norm(), self.norm()

    def forward(self, positions: Tensor, hidden_states: Tensor, residual: Tensor | None):
        if residual is None:
            residual = hidden_states
            hidden_states = self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.self_attn(positions=positions, hidden_states=hidden_states)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        return self.mlp(hidden_states), residual


class Missing(nn.Identity):
    """What stands where another stage of the pipeline has a layer."""


class IntermediateTensors(dict):
    """vLLM's, what a stage hands to the next."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__(tensors)


class Model(nn.Module):
    """The blocks ``start`` to ``end``, embedding and final norm where they are at an end."""

    layer = Layer

    def __init__(self, start: int = 0, end: int = LAYERS) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.start_layer, self.end_layer = start, end
        here = range(start, end)
        self.layers = nn.ModuleList(
            self.layer() if number in here else Missing() for number in range(LAYERS)
        )
        self.norm = self.layer.norm() if end == LAYERS else Missing()

    def forward(
        self, input_ids: Tensor | None, positions: Tensor,
        intermediate_tensors: IntermediateTensors | None, inputs_embeds: Tensor | None = None,
    ):  # fmt: skip
        if self.start_layer == 0:
            hidden, residual = inputs_embeds, None
        else:
            hidden, residual = (intermediate_tensors[k] for k in ("hidden_states", "residual"))
        for number in range(self.start_layer, self.end_layer):
            hidden, residual = self.block(number, positions, hidden, residual)
        if self.end_layer < LAYERS:
            return IntermediateTensors({"hidden_states": hidden, "residual": residual})
        return self.norm(hidden, residual)[0]

    def block(self, number: int, positions: Tensor, hidden: Tensor, residual: Tensor | None):
        return self.layers[number](positions, hidden, residual)


def served(inner: nn.Module, inside: str | None = None) -> nn.Module:
    """A model that vLLM serves, its decoder ``inner``; ``inside`` one that sees pictures."""
    model = nn.Module()
    model.model = inner
    if inside is None:
        return model
    return SimpleNamespace(**{inside: model})


def of_layers(kind: type[Layer]) -> type[Model]:
    return type(f"ModelOf{kind.__name__}", (Model,), {"layer": kind})


class Granite(Layer):
    """Scales what a branch gives before it is added."""

    def forward(self, positions, hidden_states, residual):
        mlp, residual = super().forward(positions, hidden_states, residual)
        return 0.22 * mlp, residual


class AddsBefore(Layer):
    """Adds its branches itself and norms the sum, as Granite does; its multiplier is one."""

    def forward(self, positions, hidden_states, residual):
        stream = hidden_states if residual is None else hidden_states + residual
        attended = stream + self.self_attn(positions, self.input_layernorm(stream))
        return self.mlp(self.post_attention_layernorm(attended)), attended


class ScaledAttention(Layer):
    def forward(self, positions, hidden_states, residual):
        if residual is None:
            residual, hidden_states = hidden_states, self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = 0.22 * self.self_attn(positions, hidden_states)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        return self.mlp(hidden_states), residual


class Gemma2(Layer):
    """Norms what a branch gives before it is added."""

    def __init__(self):
        super().__init__()
        self.pre_feedforward_layernorm = self.post_feedforward_layernorm = Norm()
        self.pre_feedforward_layernorm = Norm()

    def forward(self, positions, hidden_states, residual):
        if residual is None:
            residual, hidden_states = hidden_states, self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.post_attention_layernorm(self.self_attn(positions, hidden_states))
        hidden_states, residual = self.pre_feedforward_layernorm(hidden_states, residual)
        return self.post_feedforward_layernorm(self.mlp(hidden_states)), residual


class Parallel(Layer):
    """Both branches read the same rows."""

    def forward(self, positions, hidden_states, residual):
        if residual is None:
            residual, normed = hidden_states, self.input_layernorm(hidden_states)
        else:
            normed, residual = self.input_layernorm(hidden_states, residual)
        attended = self.self_attn(positions, normed)
        normed, _ = self.post_attention_layernorm(torch.zeros_like(attended), residual)
        return attended + self.mlp(normed), residual


class OneNorm(Layer):
    """Parallel branches behind one norm, as Phi's and GPT-J's."""

    def __init__(self):
        super().__init__()
        del self.post_attention_layernorm

    def forward(self, positions, hidden_states, residual):
        if residual is None:
            residual, normed = hidden_states, self.input_layernorm(hidden_states)
        else:
            normed, residual = self.input_layernorm(hidden_states, residual)
        return self.self_attn(positions, normed) + self.mlp(normed), residual


class NoMlp(Layer):
    def __init__(self):
        super().__init__()
        del self.mlp

    def forward(self, positions, hidden_states, residual):
        hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.self_attn(positions, hidden_states)
        return self.post_attention_layernorm(hidden_states, residual)


class MlpFirst(Layer):
    def forward(self, positions, hidden_states, residual):
        if residual is None:
            residual, hidden_states = hidden_states, self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.mlp(hidden_states)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        return self.self_attn(positions, hidden_states), residual


class Swapped(Layer):
    """Its norms are called by each other's name."""

    def __init__(self):
        super().__init__()
        self.input_layernorm.weight.data *= 2

    def forward(self, positions, hidden_states, residual):
        names = "input_layernorm", "post_attention_layernorm"
        first, second = (self._modules[name] for name in names)
        self._modules.update(zip(names, (second, first), strict=True))
        try:
            return super().forward(positions, hidden_states, residual)
        finally:
            self._modules.update(zip(names, (first, second), strict=True))


class Capped(Layer):
    """Bounds the stream behind its branches."""

    def forward(self, positions, hidden_states, residual):
        hidden_states, residual = super().forward(positions, hidden_states, residual)
        return hidden_states, residual.clamp(-1, 1)


class Deepstack(Model):
    """Adds to the stream between two blocks."""

    def block(self, number, positions, hidden, residual):
        hidden, residual = super().block(number, positions, hidden, residual)
        return (hidden + 0.5, residual) if number == 1 else (hidden, residual)


class ScaledEmbedding(Model):
    """Gemma's: before the first block, so that no norm sees another sum."""

    def block(self, number, positions, hidden, residual):
        return super().block(number, positions, 4 * hidden if number == 0 else hidden, residual)


class NormOfBranch(Model):
    """Its final norm does not see the stream."""

    def forward(self, input_ids, positions, intermediate_tensors, inputs_embeds=None):
        hidden, residual = inputs_embeds, None
        for number in range(LAYERS):
            hidden, residual = self.block(number, positions, hidden, residual)
        return self.norm(hidden)


class SkipsOne(Model):
    """Runs one of its blocks never."""

    def block(self, number, positions, hidden, residual):
        if number == 2:
            return hidden, residual
        return super().block(number, positions, hidden, residual)


class Backwards(Model):
    def block(self, number, positions, hidden, residual):
        return super().block(LAYERS - 1 - number, positions, hidden, residual)
