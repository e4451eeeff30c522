"""What does recording cost? Reading texts for an extraction, against plain forward passes.

    python benchmarks/extract.py [--quick]

The same batches are read in four ways, interleaved: by the model with its head, by the decoder
alone (which is what an extraction runs), and recorded at both sites, rows in the store included.
Writes JSON lines to benchmarks/results.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from decode import models
from torch import nn
from tqdm import tqdm

from emokernel.bench import append, compare_to, measure, median
from emokernel.choices import SITE
from emokernel.lab.extract.reading import batches
from emokernel.lab.extract.recording import Recorder
from emokernel.lab.extract.store import Store
from emokernel.lab.measure.encoding import TokenizedText
from emokernel.patch.decoder import find_decoder

RESULTS = Path(__file__).parent / "results"
PLAIN = "decoder alone"


def texts(vocabulary: int, count: int) -> list[TokenizedText]:
    """Random texts of 16 to 96 tokens, the first quarter of each a context."""
    generator = np.random.default_rng(0)
    samples = []
    for length in generator.integers(16, 97, count):
        own = np.arange(length) >= length // 4
        ids = generator.integers(3, vocabulary, length).astype(np.int32)
        samples.append(TokenizedText(ids, own))
    return samples


def passes(
    model: nn.Module, samples: list[TokenizedText], batch_tokens: int, folder: Path
) -> dict[str, Callable[[], None]]:
    """One pass over all samples, by variant."""
    decoder = find_decoder(model)
    lengths = [len(sample.ids) for sample in samples]
    plan = list(batches(lengths, range(len(samples)), batch_tokens))
    tensors = []
    for batch in plan:
        ids = torch.zeros(len(batch), max(lengths[n] for n in batch), dtype=torch.long)
        for row, number in enumerate(batch):
            ids[row, : lengths[number]] = torch.from_numpy(samples[number].ids)
        mask = torch.arange(ids.shape[1]) < torch.tensor([[lengths[n]] for n in batch])
        tensors.append((ids, mask.long()))

    @torch.no_grad()
    def plain(reader: nn.Module) -> None:
        for ids, mask in tensors:
            reader(input_ids=ids, attention_mask=mask, use_cache=False)

    def recorded(site: str) -> Callable[[], None]:
        recorder = Recorder(model, site, last=False)
        store = Store(folder / site, {"site": site})
        store.allocate(len(decoder.blocks), len(samples), decoder.hidden_size)

        def read() -> None:
            with recorder:
                for batch in plan:
                    store.write(batch, *recorder.read([samples[number] for number in batch]))

        return read

    return {
        PLAIN: lambda: plain(decoder.owner),
        "with the head": lambda: plain(model),
        **{f"recorded, {site}": recorded(site) for site in SITE},
    }


def main() -> None:
    """Measure every case and record it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds")
    quick = parser.parse_args().quick
    for name, dtype, model, _ in models():
        samples = texts(model.config.vocab_size, 48 if name.startswith("embedded") else 8)
        tokens = sum(len(sample.ids) for sample in samples)
        with tempfile.TemporaryDirectory() as folder:
            times = measure(
                passes(model, samples, 4096, Path(folder)),
                rounds=10 if quick else 30,
                warmup=2,
                wrap=lambda rounds, name=name, dtype=dtype: tqdm(rounds, desc=f"{name} {dtype}"),
            )
        rows = []
        for variant, values in times.items():
            against = compare_to(times[PLAIN], values)
            rows.append(
                {
                    "model": name,
                    "dtype": dtype,
                    "texts": len(samples),
                    "tokens": tokens,
                    "variant": variant,
                    "rounds": len(values),
                    "us_per_token": 1e6 * median(values) / tokens,
                    "ratio": against.ratio,
                    "ratio_95": [against.low, against.high],
                }
            )
            cost = rows[-1]["us_per_token"]
            print(f"{name} {dtype} {variant:<20} {cost:8.2f} us/token  {against.in_words()}")
        append(RESULTS, "extract", rows)


if __name__ == "__main__":
    main()
