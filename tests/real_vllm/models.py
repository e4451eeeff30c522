"""The two models of the tests, as folders, with their vectors and their prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emokernel import EmotionVectors
from emokernel.demo.model import model_folder, openings
from emokernel.demo.models import load_vectors
from emokernel.weights import fetched

QUESTIONS = (
    "Tell me about your day.", "Write one sentence about the sea.",
    "How do you feel about Mondays?", "Describe a walk in the park.",
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """``vectors`` are those that ship for it, in ``file``; they are calibrated for ``site``."""

    folder: Path
    vectors: EmotionVectors
    file: Path
    prompts: list[list[int]]

    @property
    def site(self) -> str:
        return self.vectors.site

    def emotions(self, **choices: Any) -> dict[str, Any]:
        """What an engine is told: the file, and these choices."""
        return {"vectors": str(self.file), **choices}


def embedded(scratch: Path) -> Model:
    """The model of the package: 6 layers, 6 heads, width 192, at most 256 tokens."""
    from transformers import AutoTokenizer

    tokenizer, lines = AutoTokenizer.from_pretrained(model_folder()), openings()
    texts = [lines[0], *(" ".join(lines[first : first + 5]) for first in (1, 6, 11))]
    return _made("embedded", model_folder(), scratch, tokenizer(texts).input_ids)


def smollm2(scratch: Path) -> Model:
    """SmolLM2-135M-Instruct: 30 layers, 9 heads, 3 of them for keys, width 576."""
    from transformers import AutoTokenizer

    folder = Path(fetched("smollm2"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    talks = [[{"role": "user", "content": question}] for question in QUESTIONS]
    prompts = tokenizer.apply_chat_template(talks, add_generation_prompt=True, return_dict=True)
    return _made("smollm2", folder, scratch, prompts["input_ids"])


def _made(name: str, folder: Path, scratch: Path, prompts: list[list[int]]) -> Model:
    vectors, file = load_vectors(name), scratch / f"{name}.safetensors"
    vectors.save(file)
    return Model(folder, vectors, file, prompts)
