"""A tokenizer of whole words, and activations computed directly, one text at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

WORDS = "sun rain cat dog runs sleeps well badly today now here happy cross I am".split()


def words_tokenizer() -> PreTrainedTokenizerFast:
    """Token 0 pads, on the left, 1 begins every text, 2 ends one; the words follow."""
    vocabulary = {word: n for n, word in enumerate(["<pad>", "<s>", "</s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        padding_side="left",
    )  # fmt: skip


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """One of the test's own."""
    return words_tokenizer()


@pytest.fixture
def activations() -> Callable[[PreTrainedModel, Tensor, str], Tensor]:
    """``activations(model, ids [1, tokens], site)``: ``[L, tokens, d]`` of a Llama, by hooks."""

    def of(model: PreTrainedModel, ids: Tensor, site: str) -> Tensor:
        kept: list[Tensor] = []
        layers = model.model.layers
        if site == "attention":
            handles = [
                block.self_attn.register_forward_hook(lambda m, a, o: kept.append(o[0]))
                for block in layers
            ]
        else:  # what the next module is given is the stream after a block, or after its attention
            readers = [*layers[1:], model.model.norm]
            if site == "after attention":
                readers = [block.post_attention_layernorm for block in layers]
            handles = [
                module.register_forward_pre_hook(lambda m, a: kept.append(a[0]))
                for module in readers
            ]
        with torch.no_grad():
            model(ids)
        for handle in handles:
            handle.remove()
        return torch.cat(kept)

    return of
