"""Reading: texts to token ids, batches of about the same length, rows into the store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from emokernel.errors import EmokernelError
from emokernel.vectors.extraction.recording import Recorder, Sample
from emokernel.vectors.extraction.store import Store

# A text, or (context, text): the context is read by the model but not recorded.
Text = str | tuple[str, str]
_ENCODED_AT_ONCE = 1024


def encode(
    tokenizer: Any, texts: Iterable[Text], max_length: int, *, add_special_tokens: bool = True
) -> list[Sample]:
    """Samples of texts of ``max_length`` tokens at most; context and special tokens are not own.

    ``add_special_tokens``: whether the tokenizer adds its own; the text of a chat template holds
    them (`emokernel.evaluate.encoding`).
    EmokernelError for a slow tokenizer, or a single string in place of a list.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise EmokernelError("extraction needs a fast tokenizer, one that knows character offsets")
    if isinstance(texts, str):
        raise EmokernelError("texts must be a list of texts, got one string")
    pairs = [("", text) if isinstance(text, str) else text for text in texts]
    samples, special = [], special_ids(tokenizer)
    for start in range(0, len(pairs), _ENCODED_AT_ONCE):
        part = pairs[start : start + _ENCODED_AT_ONCE]
        encoded = tokenizer(
            [context + text for context, text in part],
            add_special_tokens=add_special_tokens,
            truncation=True,
            max_length=max_length,
            return_offsets_mapping=True,
        )
        for row, (context, _) in enumerate(part):
            ends = np.array([end for _, end in encoded["offset_mapping"][row]], dtype=np.int64)
            ids = np.array(encoded["input_ids"][row], dtype=np.int32)
            # A token that begins with the space before the text belongs to the text.
            samples.append(Sample(ids, (ends > len(context)) & ~np.isin(ids, special)))
    return samples


def special_ids(tokenizer: Any) -> np.ndarray:
    """The tokens that are never a text's own: all special ones but the unknown word."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return np.array(sorted(special), dtype=np.int32)


def digest(samples: Iterable[Sample]) -> str:
    """A sha256 over samples: the same texts, contexts and tokenizer give the same."""
    hashed = hashlib.sha256()
    for sample in samples:
        hashed.update(len(sample.ids).to_bytes(8, "little"))
        hashed.update(sample.ids.tobytes() + sample.own.tobytes())
    return hashed.hexdigest()


def batches(
    lengths: Sequence[int], numbers: Iterable[int], tokens: int, size: int | None = None
) -> Iterator[list[int]]:
    """``numbers`` in batches of about equal ``lengths``, the longest first.

    A batch holds at most ``tokens`` tokens, padding included, and ``size`` texts, but one at least.
    """
    batch: list[int] = []
    for number in sorted(numbers, key=lambda number: (-lengths[number], number)):
        longest = lengths[batch[0]] if batch else 0
        if batch and (longest * (len(batch) + 1) > tokens or len(batch) == size):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def read(
    recorder: Recorder,
    samples: Sequence[Sample],
    store: Store,
    *,
    batch_tokens: int,
    batch_size: int | None,
    progress: bool,
) -> None:
    """Read all samples that have a token of their own and are not in the store yet, into it."""
    store.allocate(len(recorder.layers), len(samples), recorder.decoder.hidden_size)
    lengths = [len(sample.ids) for sample in samples]
    readable = [number for number, sample in enumerate(samples) if sample.own.any()]
    known = sum(lengths[number] for number in readable if store.done[number])
    with (
        recorder,
        tqdm(
            total=sum(lengths[number] for number in readable),
            initial=known,
            desc="reading",
            unit="token",
            unit_scale=True,
            disable=not progress,
        ) as bar,
    ):
        for batch in batches(lengths, readable, batch_tokens, batch_size):
            if store.done[batch].all():
                continue
            store.write(batch, *recorder.read([samples[number] for number in batch]))
            bar.update(sum(lengths[number] for number in batch))
