"""Reading: batches of about the same length, their rows into the store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from tqdm import tqdm

from emokernel.lab.extract.recording import Recorder
from emokernel.lab.extract.store import Store
from emokernel.lab.measure.encoding import TokenizedText


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
    samples: Sequence[TokenizedText],
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
