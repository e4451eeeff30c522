"""Extraction: mean activation on emotional text minus mean activation on neutral text.

EV_l = mean over tokens of a_l(emotional) - mean over tokens of a_l(neutral), arXiv 2502.04075,
with a_l the output of the attention branch of block l (site "attention") or the residual stream
after it (site "block").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from emokernel.errors import EmokernelError, ModelStructureError
from emokernel.patch.decoder import Decoder, evaluating, find_decoder, stream_of
from emokernel.patch.forward import RewrittenForward, is_patched
from emokernel.patch.source import rewrite
from emokernel.patch.structure import BlockAdds, read_block
from emokernel.patch.trace import trace
from emokernel.vectors.emotion_vectors import EmotionVectors, check_site

# A text, or (context, text): the context is read by the model but not averaged over.
Text = str | tuple[str, str]
_NEUTRAL = "neutral text "


def extract(
    model: nn.Module,
    tokenizer: Any,
    emotional: Mapping[str, Iterable[Text]],
    neutral: Iterable[Text] | Mapping[str, Iterable[Text]],
    *,
    site: str = "block",
    batch_size: int = 32,
    max_length: int = 512,
    data: str = "",
    revision: str | None = None,
    progress: bool = True,
) -> EmotionVectors:
    """Vectors ``[L, E, d]`` of ``model`` for the emotions named in ``emotional``.

    Texts are strings, or (context, text) pairs, where a context such as an instruction or a prefix
    conditions the model but its tokens are left out of the mean, as special tokens and padding
    are. ``neutral`` is one set of texts for all emotions, or {emotion: texts}, such as the very
    texts of the emotion behind a neutral context. Texts are read once, ``batch_size`` at a time;
    memory does not grow with their number. ``max_length`` in tokens cuts longer ones. ``data``
    describes them for the provenance.

    Raises EmokernelError for an emotion without a single token, a slow tokenizer or an unknown
    site, ModelStructureError for a model whose blocks cannot be read.
    """
    check_site(site)
    if not emotional:
        raise EmokernelError("no emotional text given: pass {emotion: texts}")
    if not getattr(tokenizer, "is_fast", False):
        raise EmokernelError("extraction needs a fast tokenizer, one that knows character offsets")
    decoder = find_decoder(model)
    if is_patched(decoder):
        raise EmokernelError("extract from the model itself: call unpatch() on its Steering first")
    adds = _attention_adds(model, decoder) if site == "attention" else None
    counts: dict[str, dict[str, int]] = {}
    means: dict[str, Tensor] = {}
    paired = isinstance(neutral, Mapping)
    if paired and set(neutral) != set(emotional):
        raise EmokernelError("neutral texts by emotion need the same emotions as emotional ones")
    neutrals = neutral if paired else {"": neutral}
    groups = [*emotional.items(), *((_NEUTRAL + of, texts) for of, texts in neutrals.items())]
    for name, texts in tqdm(groups, desc="extracting", unit="set", disable=not progress):
        mean = _Mean()
        with torch.no_grad(), evaluating(model), _recording(decoder, adds, mean):
            for batch in _batches(texts, batch_size):
                _run(model, tokenizer, batch, max_length, mean)
        if not mean.tokens:
            raise EmokernelError(f"no tokens to average over for {name!r}: give it some text")
        means[name] = mean.value()
        counts[name] = {"texts": mean.texts, "tokens": mean.tokens}
    return EmotionVectors.from_tensors(
        {name: means[name] - means[_NEUTRAL + (name if paired else "")] for name in emotional},
        site=site,
        provenance={
            "method": "mean over tokens of emotional text minus mean over tokens of neutral text",
            "model": getattr(model.config, "_name_or_path", "") or type(model).__name__,
            "revision": revision or getattr(model.config, "_commit_hash", None) or "unknown",
            "data": data or "not described",
            "counts": counts,
            "versions": _versions(),
        },
    )


class _Mean:
    """Running mean over tokens of every layer's activations; sums in fp64."""

    def __init__(self) -> None:
        self.texts = self.tokens = 0
        self.counted: Tensor | None = None
        self._sums: dict[int, Tensor] = {}

    def add(self, layer: int, activations: Tensor) -> None:
        """Add ``activations [batch, tokens, d]`` where ``counted [batch, tokens]`` is true."""
        activations = activations.view(*self.counted.shape, -1)
        total = activations[self.counted.to(activations.device)].double().sum(0).cpu()
        self._sums[layer] = self._sums[layer] + total if layer in self._sums else total

    def value(self) -> Tensor:
        """The means ``[L, d]``, fp32."""
        sums = torch.stack([self._sums[layer] for layer in sorted(self._sums)])
        return (sums / self.tokens).float()


def _attention_adds(model: nn.Module, decoder: Decoder) -> list[BlockAdds]:
    traced = trace(model, decoder)
    adds = [read_block(traced, index, block) for index, block in enumerate(decoder.blocks)]
    for block, found in zip(decoder.blocks, adds, strict=True):
        if found.attention is None or found.branch is None:
            raise ModelStructureError(
                f"{type(block).__name__} does not add its attention branch to the stream by itself:"
                ' extract at site="block"'
            )
    return adds


class _recording:
    """Watches every layer's activations, for as long as the block lasts.

    With ``adds`` those are the attention branches that the blocks add, else the stream behind them.
    """

    def __init__(self, decoder: Decoder, adds: list[BlockAdds] | None, mean: _Mean) -> None:
        self._decoder, self._adds, self._mean = decoder, adds, mean

    def __enter__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        for layer, block in enumerate(self._decoder.blocks):
            if self._adds is not None:
                self._watch_branch(layer, block, self._adds[layer])
            else:
                handle = block.register_forward_hook(self._hook(layer))
                self._undo.append(handle.remove)

    def __exit__(self, *_: object) -> None:
        for undo in self._undo:
            undo()

    def _watch_branch(self, layer: int, block: nn.Module, adds: BlockAdds) -> None:
        child, key = adds.attention.place
        module = block.get_submodule(child) if child else block

        def add(a: Tensor, b: Tensor) -> Tensor:
            self._mean.add(layer, (a, b)[adds.branch])
            return a + b

        watched = RewrittenForward(module, rewrite(type(module).forward, {key: add}.get))
        watched.install()
        self._undo.append(watched.restore)

    def _hook(self, layer: int) -> Callable:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            self._mean.add(layer, stream_of(output))

        return hook


def _batches(texts: Iterable[Text], size: int) -> Iterator[list[Text]]:
    if isinstance(texts, str):
        raise EmokernelError("texts must be a list of texts, got one string")
    texts = iter(texts)
    while batch := list(islice(texts, size)):
        yield batch


def _run(model: nn.Module, tokenizer: Any, texts: list[Text], limit: int, mean: _Mean) -> None:
    pairs = [("", text) if isinstance(text, str) else text for text in texts]
    encoded = tokenizer(
        [context + text for context, text in pairs],
        truncation=True,
        max_length=limit,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    # Padded by hand: many tokenizers of decoders have no pad token.
    ids, mask, special, offsets = (
        pad_sequence([torch.tensor(row) for row in encoded[name]], batch_first=True)
        for name in ("input_ids", "attention_mask", "special_tokens_mask", "offset_mapping")
    )
    starts = torch.tensor([len(context) for context, _ in pairs])
    # A token that begins with the space before the text belongs to the text.
    mean.counted = (offsets[..., 1] > starts[:, None]) & (mask != 0) & (special == 0)
    mean.texts += len(pairs)
    mean.tokens += int(mean.counted.sum())
    device = model.get_input_embeddings().weight.device
    model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)


def _versions() -> dict[str, str]:
    from emokernel import __version__

    return {
        "emokernel": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
