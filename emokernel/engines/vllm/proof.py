"""Whether a decoder of vLLM adds its branches as Llama's does, shown by running it.

Its norms are where it is steered, so each has to see the sum that the residual stream holds there.
Models that call their norms by the same names may add elsewhere, scale a branch, or norm it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.errors import ModelStructureError

_INPUT, _AFTER_ATTENTION = "input_layernorm", "post_attention_layernorm"
_ROWS = 3


@dataclass(frozen=True)
class Decoder:
    """The blocks ``start`` to ``end`` of a model, of ``total``, that one worker holds."""

    module: Any
    start: int
    end: int
    total: int

    @property
    def last(self) -> bool:
        """Whether the final norm is here."""
        return self.end == self.total

    def norms(self, site: str) -> Iterator[tuple[int, nn.Module]]:
        """(The layer whose vectors are for it, the norm behind the site), of those that are here.

        The sum at the end of a block is made by the norm of the next one, which may be elsewhere.
        """
        layers = self.module.layers
        if site == "attention":
            for layer in range(self.start, self.end):
                yield layer, getattr(layers[layer], _AFTER_ATTENTION)
            return
        for layer in range(max(self.start, 1), self.end):
            yield layer - 1, getattr(layers[layer], _INPUT)
        if self.last:
            yield self.total - 1, self.module.norm


def decoder_of(model: Any, d: int, dtype: torch.dtype, device: torch.device) -> Decoder:
    """The decoder of a model; ModelStructureError if it is another kind than Llama's.

    ``d``, ``dtype`` and ``device`` of its residual stream.
    """
    inner = getattr(getattr(model, "language_model", model), "model", None)
    name = type(model).__name__
    if not all(hasattr(inner, each) for each in ("layers", "start_layer", "end_layer", "norm")):
        raise ModelStructureError(f"{name} has no decoder that emokernel knows in vLLM")
    start, end = int(inner.start_layer), int(inner.end_layer)  # pyright: ignore
    decoder = Decoder(inner, start, end, len(inner.layers))  # pyright: ignore
    try:
        with torch.inference_mode():
            reason = _first_difference(decoder, d, dtype, device)
    except ModelStructureError as error:
        reason = str(error)
    except Exception as error:  # whatever a model of another structure raises
        reason = f"it does not run with the branches of its blocks replaced ({error})"
    if reason is not None:
        raise ModelStructureError(
            f"{name} cannot be steered in vLLM: {reason}. Supported are decoders like Llama's,"
            " Qwen's and Mistral's; others run in transformers (emokernel serve)"
        )
    return decoder


class _Branch(nn.Module):
    """Stands for a branch of a block: notes the rows that it is given, and gives ``out``."""

    def __init__(self, out: Tensor) -> None:
        super().__init__()
        self.out = out
        self.given: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        given = [*args, *kwargs.values()]
        rows = [each for each in given if isinstance(each, Tensor) and each.dtype is self.out.dtype]
        (self.given,) = (each.clone() for each in rows if each.shape == self.out.shape)
        return self.out.clone()


@contextmanager
def _branches(layer: nn.Module, outs: list[Tensor]) -> Iterator[list[_Branch]]:
    """Within it, the attention and what follows it are `_Branch`, in this order."""
    held = layer._modules
    names = [name for name in held if name not in (_INPUT, _AFTER_ATTENTION)]
    names.sort(key=lambda name: "attn" not in name)
    kept = [held[name] for name in names]
    branches = [_Branch(out) for out in outs]
    if len(names) != 2 or "attn" not in names[0] or len(held) != 4:
        raise ModelStructureError(
            f"its blocks are made of {', '.join(held)}; two norms, attention and one part are known"
        )
    try:
        held.update(zip(names, branches, strict=True))
        yield branches
    finally:
        held.update(zip(names, kept, strict=True))


@contextmanager
def _adding(model: nn.Module) -> Iterator[set[nn.Module]]:
    """Within it, the parts of a model that are called with two tensors, as norms that add are."""
    adding: set[nn.Module] = set()

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        given = [*args, *kwargs.values()]
        if sum(isinstance(each, Tensor) for each in given) == 2:
            adding.add(module)

    hooks = [
        each.register_forward_pre_hook(note, with_kwargs=True)
        for each in model.modules()
        if hasattr(each, "weight")
    ]
    try:
        yield adding
    finally:
        for hook in hooks:
            hook.remove()


def _first_difference(
    decoder: Decoder, d: int, dtype: torch.dtype, device: torch.device
) -> str | None:
    """The first place where a norm sees something else than the stream; None if there is none."""
    generator = torch.Generator().manual_seed(0)

    def rows() -> Tensor:
        return torch.randn(_ROWS, d, generator=generator).to(device, dtype)

    inner, numbers = decoder.module, range(decoder.start, decoder.end)
    hidden, stream = rows(), rows() if decoder.start else None
    outs = {number: [rows(), rows()] for number in numbers}
    seen: dict[int, list[_Branch]] = {}
    with _adding(inner) as adding:
        made = _run(decoder, hidden, stream, outs, seen)
    for number in numbers:
        layer = inner.layers[number]
        norms = getattr(layer, _INPUT), getattr(layer, _AFTER_ATTENTION)
        for norm, branch, out in zip(norms, seen[number], outs[number], strict=True):
            first = stream is None
            if stream is None:
                normed, stream = norm(hidden.clone()), hidden
            else:
                normed, stream = norm(hidden.clone(), stream.clone())
            if branch.given is None or not torch.equal(branch.given, normed):
                return f"a norm of block {number} sees another sum than that of the branches"
            if norm not in adding and not first:
                return f"a norm of block {number} is given a sum that was made before"
            hidden = out
    if stream is None:
        return "it has no blocks"
    if decoder.last:
        normed, _ = inner.norm(hidden.clone(), stream.clone())
        if inner.norm not in adding or not torch.equal(made, normed):
            return "its final norm sees another sum than that of the last block"
    elif not (torch.equal(made["hidden_states"], hidden) and torch.equal(made["residual"], stream)):
        return "it hands another sum to the next stage of the pipeline"
    return None


def _run(
    decoder: Decoder, hidden: Tensor, stream: Tensor | None, outs: dict[int, list[Tensor]],
    seen: dict[int, list[_Branch]],
) -> Any:  # fmt: skip
    """The forward of the decoder, not compiled, with `_Branch` in its blocks."""
    inner = decoder.module
    given: dict[str, Any] = {"inputs_embeds": hidden.clone(), "intermediate_tensors": None}
    if stream is not None:
        from vllm.sequence import IntermediateTensors  # pyright: ignore[reportMissingImports]

        tensors = {"hidden_states": hidden.clone(), "residual": stream.clone()}
        given = {"inputs_embeds": None, "intermediate_tensors": IntermediateTensors(tensors)}
    positions = torch.arange(_ROWS, device=hidden.device)
    with ExitStack() as stack:
        for number, each in outs.items():
            seen[number] = stack.enter_context(_branches(inner.layers[number], each))
        return type(inner).forward(inner, input_ids=None, positions=positions, **given)
