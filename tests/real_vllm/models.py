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
    """``vectors`` are those that ship for it, in ``file``; they are calibrated for their site."""

    folder: Path
    vectors: EmotionVectors
    file: Path
    tokenizer: Any
    texts: list[str]
    prompts: list[list[int]]

    @property
    def site(self) -> str:
        return self.vectors.site

    def emotions(self, **choices: Any) -> dict[str, Any]:
        """What an engine is told: the file, and these choices."""
        return {"vectors": str(self.file), **choices}


def embedded(scratch: Path) -> Model:
    """The model of the package: 6 layers, 6 heads, width 192, at most 256 tokens."""
    lines = openings()
    texts = [lines[0], *(" ".join(lines[first : first + 5]) for first in (1, 6, 11))]
    return _made("embedded", model_folder(), scratch, texts)


def smollm2(scratch: Path) -> Model:
    """SmolLM2-135M-Instruct: 30 layers, 9 heads, 3 of them for keys, width 576."""
    folder = Path(fetched("smollm2"))
    talks = [[{"role": "user", "content": question}] for question in QUESTIONS]
    tokenizer = _tokenizer(folder)
    texts = tokenizer.apply_chat_template(talks, add_generation_prompt=True, tokenize=False)
    return _made("smollm2", folder, scratch, texts)


def _made(name: str, folder: Path, scratch: Path, texts: list[str]) -> Model:
    vectors, file = load_vectors(name), scratch / f"{name}.safetensors"
    vectors.save(file)
    tokenizer = _tokenizer(folder)
    return Model(folder, vectors, file, tokenizer, texts, tokenizer(texts).input_ids)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
