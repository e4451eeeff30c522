"""What does steering cost a token? `emokernel bench` on the models of this project.

    python benchmarks/decode.py [--quick] [--rounds N] [--batches N ...]

Decodes behind a prompt of 64 tokens, one sequence and sixteen: the embedded model and random ones,
unpatched, with plain hooks and with emokernel, eager and compiled. Writes JSON lines and pictures
to benchmarks/results. Under pytest-benchmark (`make bench`) the embedded model is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from emokernel.bench import append, machine, now
from emokernel.bench.benchmark import BenchOptions, bench
from emokernel.bench.cases import Case, cases
from emokernel.bench.decode import Decoding, random_prompt
from emokernel.bench.pictures import latency
from emokernel.bench.stand_ins import random_vectors
from emokernel.bench.summary import table
from emokernel.bench.variants import (
    CHOICES,
    EAGER,
    EMOKERNEL,
    GRAPH,
    PLAIN_HOOK,
    UNPATCHED,
    VARIANTS,
    with_baselines,
)
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.extras import need
from emokernel.vectors import EmotionVectors

RESULTS = Path(__file__).parent / "results"
BATCHES, CONTEXT, TOKENS = (1, 16), 64, 9


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


def models() -> Iterator[tuple[str, str, PreTrainedModel, EmotionVectors]]:
    """(name, dtype, model, vectors) of what is measured."""
    model, _ = load_model()
    yield "embedded 192x6", "fp32", model, load_vectors()
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = random_model(dtype)
        yield "random 1024x8", name, model, random_vectors(model)


def main() -> None:
    """Measure every model, record and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, without torch.compile")
    parser.add_argument("--rounds", type=int, help="of each case (100; 10 with --quick)")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="sequences (1 16)")
    chosen = parser.parse_args()
    need("matplotlib")  # before anything is measured
    quick = chosen.quick
    rounds = chosen.rounds or (10 if quick else 100)
    modes = {EAGER} if quick else {variant.mode for variant in VARIANTS.values()} - {GRAPH}
    names = [name for name in CHOICES if VARIANTS[name].mode in modes]
    options = BenchOptions(tuple(with_baselines(names)), new_tokens=TOKENS, rounds=rounds)
    began = now()
    for name, dtype, model, vectors in models():
        wanted = cases(chosen.batches, [CONTEXT], [1.0], ["one"])
        about = {"model": name, "dtype": dtype}
        for done in bench(model, vectors, wanted, options):
            append(RESULTS, "decode", [about | row for row in done.rows], began)
            print(f"{name}, {dtype}, {table(done.case, done.rows)}\n")
            batch = done.case.batch
            suffix = "" if batch == 1 else f"-batch-{batch}"
            picture = RESULTS / f"decode-{name.replace(' ', '-')}-{dtype}{suffix}.png"
            title = f"Decoding, {name} {dtype}, batch {batch}, {machine()['cpu']}"
            latency(picture, done.rows, title)


@pytest.mark.parametrize("variant", [UNPATCHED, PLAIN_HOOK, EMOKERNEL])
def test_decode_eight_tokens(benchmark, variant):
    model, _ = load_model()
    prompt = random_prompt(model, 1, CONTEXT)
    decoding = Decoding(model, load_vectors(), VARIANTS[variant], prompt, 8)
    decoding.ask(Case(1, CONTEXT))
    benchmark(decoding)


if __name__ == "__main__":
    main()
