"""Train the embedded model's tokenizer: byte-level BPE with one prefix token per condition."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from emokernel.lab.measure.conditions import CONDITIONS, prefix

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"


def train_tokenizer(
    texts: Iterable[str], vocabulary_size: int = 4096, max_length: int = 256
) -> PreTrainedTokenizerFast:
    """A tokenizer of `vocabulary_size` entries, special ones included; encoding starts with BOS."""
    tokenizer = Tokenizer(models.BPE())
    # Without a prefix space, decoding gives back exactly what was encoded, also piece by piece.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, BOS, EOS, *map(prefix, CONDITIONS)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocabulary_size:
        raise ValueError(
            f"the text gives {tokenizer.get_vocab_size()} entries, not {vocabulary_size}; "
            "train on more text or ask for fewer"
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A $B",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[prefix(condition) for condition in CONDITIONS],
        padding_side="left",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
