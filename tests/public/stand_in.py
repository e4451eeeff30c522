"""What the files in `files` were made with: a model, vectors and runs that any machine makes alike.

Journals are kept under the fingerprint of the model, the digest of the vectors and the table of
coordinates. All of these are made by integer arithmetic and are exact in fp32, so that they depend
on no random generator, instruction set or mathematical library.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from word_model import NAMES, WordJudge, word_tokenizer

from emokernel import EmotionVectors
from emokernel.affect import Coordinates
from emokernel.lab.calibrate import Bounds, Calibrated, Prompts, calibrate
from emokernel.lab.evaluate.evaluation import evaluate
from emokernel.lab.evaluate.plan import Settings
from emokernel.lab.evaluate.prompting import prompting
from emokernel.lab.extract import Sampling, extract_answers
from emokernel.lab.extract.prompts import Conditioning
from emokernel.lab.extract.queries import Queries
from emokernel.vectors.calibration import Calibration

LAYERS, WIDTH = 3, 16
POINTS = ((-0.75, 0.5), (0.75, 0.5), (-0.5, -0.75), (0.25, 0.75))
COORDINATES = Coordinates(dict(zip(NAMES, POINTS, strict=True)), name="exact")
OPENINGS = tuple(f"w{n} w{n + 1} w{n + 2}" for n in range(20, 24))


def exact(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Numbers that look random, fp32: multiples of 1/128, from -1 to below 1."""
    count = int(np.prod(shape))
    mixed = (np.arange(count, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B1)
    for _ in range(2):
        mixed = (mixed ^ (mixed >> np.uint64(15))) * np.uint64(0x85EBCA6B) % np.uint64(2**32)
    values = (mixed >> np.uint64(24)).astype(np.float32) / 128 - 1
    return torch.from_numpy(values.reshape(shape))


def exact_model() -> PreTrainedModel:
    """A Llama of three layers that writes the words of `word_tokenizer`."""
    config = LlamaConfig(
        vocab_size=96, hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for number, (name, parameter) in enumerate(sorted(model.named_parameters())):
        scale = 1 if "embed" in name or "lm_head" in name else 0.25
        values = 1 + exact(parameter.shape, number) / 2 if "norm" in name else None
        parameter.data = scale * exact(parameter.shape, number) if values is None else values
    return model.eval()


def word_vectors(model: nn.Module) -> EmotionVectors:
    """For each emotion towards the words that `WordJudge` counts for it; sums that are exact."""
    head = model.lm_head.weight.detach()
    every = head.sum(0)
    tensors = {
        name: (head[number::4].sum(0) / 16 - every / 64).repeat(LAYERS, 1)
        for number, name in enumerate(NAMES)
    }
    return EmotionVectors.from_tensors(tensors, site="block")


class Counting(WordJudge):
    """Counts the texts that it reads, and ends the run like Ctrl-C once it has read ``limit``."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.texts, self._limit = 0, limit

    def probabilities(self, texts: Any) -> torch.Tensor:
        if self.texts >= self._limit:
            raise KeyboardInterrupt
        self.texts += len(texts)
        return super().probabilities(texts)


class Watched:
    """The batches that a model's decoder begins: those that are ``generated``, and those that are
    only ``read``, after ``limit`` of which it stops."""

    def __init__(self, model: Any, limit: float = float("inf")) -> None:
        self.generated, self.read, self._limit = 0, 0, limit
        self._forward, model.model.forward = model.model.forward, self._counted

    def _counted(
        self, *args: Any, past_key_values: Any = None, use_cache: bool | None = None, **options: Any
    ) -> Any:
        if past_key_values is None and use_cache:
            self.generated += 1
        elif past_key_values is None:
            if self.read >= self._limit:
                raise KeyboardInterrupt
            self.read += 1
        return self._forward(*args, past_key_values=past_key_values, use_cache=use_cache, **options)


def calibration(journal: Path | None, judge: Counting) -> Calibrated:
    """The calibration that the journal is of."""
    model = exact_model()
    return calibrate(
        model, word_tokenizer(), word_vectors(model), judge=judge,
        prompts=Prompts(tuple(("", opening) for opening in OPENINGS), True),
        bounds=Bounds(perplexity=20.0, distinct=0.25), sampling=Sampling(6), sites=["block"],
        laws=["add"], doses=["absolute"], coordinates=COORDINATES, journal=journal, progress=False,
    )  # fmt: skip


def evaluation(folder: Path, judge: Counting) -> Any:
    """The evaluation that the journal is of."""
    model, tokenizer = exact_model(), word_tokenizer()
    asked = prompting(tokenizer, embedded=False, openings=OPENINGS, coordinates=COORDINATES)
    settings = Settings(
        openings=2, seeds=1, intensities=(1.0,), strengths=(1.0,), doses=(0.25,),
        templates=("word",), sampling=Sampling(6), batch_size=8,
    )  # fmt: skip
    vectors = word_vectors(model)
    return evaluate(
        model, tokenizer, vectors, asked, folder, judge=judge, settings=settings, progress=False
    )


def extraction(folder: Path | None, watch: Callable[[Any], Any]) -> EmotionVectors:
    """The extraction that the store is of; ``watch`` is given the model before it."""
    model = exact_model()
    watch(model)
    return extract_answers(
        model, word_tokenizer(), Queries([(None, text) for text in OPENINGS]),
        Conditioning.prefix("w3 w4 {emotion} {query}", "w5 w6 {query}"), emotions=["w7", "w8"],
        sampling=Sampling(4), site="block", batch_tokens=32, resume=folder, progress=False,
    )  # fmt: skip


def some_vectors() -> EmotionVectors:
    """Vectors with all that vectors can have; layer 1 has none."""
    tensor = exact((LAYERS, 2, 8), 99)
    tensor[1] = 0.0
    calibration = Calibration(
        "attention", (0.5, 0.0, 1.0), "preserve", "relative", "axes", "own",
        {"preserve relative": {"joy": 1.5, "anger": 0.25}, "add absolute": {"joy": 3.0}},
        {"preserve relative axes": tuple(1 + number / 8 for number in range(12))},
        {"judge": "some judge", "prompts": 40}, {"joy": (0.75, 0.5), "anger": (-0.5, 0.75)},
    )  # fmt: skip
    return EmotionVectors(
        ("joy", "anger"), tensor, "attention", {"model": "some/model", "counts": {"joy": 3}},
        {"auc_neutral": [[0.5, 0.75]] * LAYERS}, calibration,
    )  # fmt: skip
