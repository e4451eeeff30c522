"""What does steering cost a token? Decoding unpatched, with plain hooks, and with emokernel.

    python benchmarks/decode.py [--quick]

Writes JSON lines and a picture to benchmarks/results. Under pytest-benchmark (`make bench`) the
embedded model is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from emokernel.bench import append, compare_to, machine, median
from emokernel.bench.decode import (
    EMOKERNEL,
    PLAIN_HOOK,
    UNPATCHED,
    compare,
    random_vectors,
    variants,
)
from emokernel.bench.decode_plot import latency
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.vectors import EmotionVectors

RESULTS = Path(__file__).parent / "results"


def random_model(dtype: torch.dtype) -> LlamaForCausalLM:
    """A random Llama of hidden size 1024 and 8 layers."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=8,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=8192,
        max_position_embeddings=512,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def cases() -> Iterator[tuple[str, str, PreTrainedModel, EmotionVectors]]:
    """(name, dtype, model, vectors) of what is measured."""
    model, _ = load_model()
    yield "embedded 192x6", "fp32", model, load_vectors()
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = random_model(dtype)
        yield "random 1024x8", name, model, random_vectors(model)


def main() -> None:
    """Measure every case, record and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, without torch.compile")
    quick = parser.parse_args().quick
    for name, dtype, model, vectors in cases():
        times = compare(
            model,
            vectors,
            rounds=10 if quick else 100,
            with_compiled_hook=not quick,
            wrap=lambda rounds, name=name, dtype=dtype: tqdm(rounds, desc=f"{name} {dtype}"),
        )
        rows = []
        for variant, values in times.items():
            against = compare_to(times[UNPATCHED], values)
            rows.append(
                {
                    "model": name,
                    "dtype": dtype,
                    "batch": 1,
                    "context": 64,
                    "variant": variant,
                    "rounds": len(values),
                    "ms_per_token": median(values),
                    "ratio": against.ratio,
                    "ratio_95": [against.low, against.high],
                }
            )
            print(f"{name} {dtype} {variant:<14} {median(values):8.3f} ms  {against} x unpatched")
        append(RESULTS, "decode", rows)
        picture = RESULTS / f"decode-{name.replace(' ', '-')}-{dtype}.png"
        latency(picture, times, f"Decoding, {name} {dtype}, {machine()['cpu']}")


@pytest.fixture(scope="module")
def decoding() -> dict[str, Callable[[], None]]:
    """Eight tokens by the embedded model, by variant."""
    model, _ = load_model()
    return variants(model, load_vectors())


@pytest.mark.parametrize("variant", [UNPATCHED, PLAIN_HOOK, EMOKERNEL])
def test_decode_eight_tokens(benchmark, decoding, variant):
    benchmark(decoding[variant])


if __name__ == "__main__":
    main()
