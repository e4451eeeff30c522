"""Reading: batches of about the same length, their rows into the store."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Iterable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from emokernel.lab.extract.options import Options
from emokernel.lab.extract.recording import Recorder
from emokernel.lab.extract.store import Store
from emokernel.lab.measure.encoding import TokenizedText

_LEAST = 0.8  # of the length of the longest text of a batch, in a batch that is large enough


def digest(samples: Iterable[TokenizedText]) -> str:
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
    From a quarter of that on it ends where texts are so much shorter that padding would be wasted.
    """
    batch: list[int] = []
    for number in sorted(numbers, key=lambda number: (-lengths[number], number)):
        longest = lengths[batch[0]] if batch else 0
        padded = longest * (len(batch) + 1)
        wasteful = 4 * padded > tokens and lengths[number] < _LEAST * longest
        if batch and (padded > tokens or len(batch) == size or wasteful):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def unfinished(
    lengths: Sequence[int],
    numbers: Collection[int],
    done: Container[int],
    options: Options,
    doing: str,
    progress: bool,
) -> Iterator[list[int]]:
    """The `batches` of ``numbers`` that are not ``done`` yet, with a bar.

    It counts tokens: the longest texts come first, so texts would be slow at first and fast later.
    """
    before = sum(lengths[number] for number in numbers if number in done)
    with tqdm(
        total=sum(lengths[number] for number in numbers), initial=before,
        desc=f"{doing} {len(numbers)} texts", unit=" tokens", unit_scale=True, disable=not progress,
    ) as bar:  # fmt: skip
        for batch in batches(lengths, numbers, options.batch_tokens, options.batch_size):
            new = sum(lengths[number] for number in batch if number not in done)
            if new:
                yield batch
                bar.update(new)


def read(
    recorder: Recorder,
    samples: Sequence[TokenizedText],
    store: Store,
    options: Options,
    *,
    progress: bool,
) -> None:
    """Read all samples that have a token of their own and are not in the store yet, into it."""
    store.allocate(len(recorder.layers), len(samples), recorder.decoder.hidden_size)
    lengths = [len(sample.ids) for sample in samples]
    readable = [number for number, sample in enumerate(samples) if sample.own.any()]
    done = set(np.flatnonzero(store.done).tolist())
    with recorder:
        for batch in unfinished(lengths, readable, done, options, "reading", progress):
            store.write(batch, *recorder.read([samples[number] for number in batch]))
