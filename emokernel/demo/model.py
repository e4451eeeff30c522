"""The embedded language model: how it is loaded and sampled, and what has to be said of it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from emokernel.demo.wordlist import NOTE
from emokernel.lab.measure.conditions import CONDITIONS, prefix
from emokernel.lab.measure.sampling import Sampling

__all__ = ["CONDITIONS", "MODEL_PATH", "load_model", "model_folder", "openings", "prefix"]

MODEL_PATH = Path(__file__).parent / "assets" / "model"
NAME = "the embedded model of emokernel"
SAMPLING = Sampling(max_new_tokens=28, temperature=0.8, top_p=0.9)
NOTES = (
    "The embedded model follows no instructions. Prefix tokens, on which it was trained, stand for"
    " prompts, and openings that it continues for questions; a state is asked for by the prefix of"
    " the nearest emotion, at full intensity only.",
    NOTE,
)
INDEPENDENT = (
    "The main judge was trained on text that neither the model, its vectors nor the choice of their"
    " strengths has seen."
)


def load_model(
    dtype: torch.dtype = torch.float32,
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The embedded model in evaluation mode, on the CPU, and its tokenizer.

    The tokenizer puts the BOS token before every text and pads on the left. A text conditioned on
    an emotion begins with `prefix(emotion)`; one conditioned on none begins with itself.
    """
    folder = model_folder()
    model = LlamaForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def model_folder() -> Path:
    """The folder of the embedded model; FileNotFoundError if it lacks its weights."""
    if not (MODEL_PATH / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"{MODEL_PATH / 'model.safetensors'} is missing: install emokernel again, or train the "
            "model with `python -m embedded.language_model --data DIR` in benchmarks/"
        )
    return MODEL_PATH


def openings() -> tuple[str, ...]:
    """The sixty neutral openings of the demo, fixed before the first steered run."""
    path = Path(__file__).parent / "openings.txt"
    return tuple(path.read_text("utf-8").split("\n")[:-1])
