"""The judge "goemotions-minilm": a sentence encoder that has learnt the 28 GoEmotions labels.

Only what was learnt ships: low-rank changes of the encoder's matrices, changes of its vectors, and
the layer that reads labels from the mean of a text's tokens. They are added to the weights of
all-MiniLM-L6-v2 when the judge is loaded; what is added to any others is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput

from emokernel.errors import EmokernelError
from emokernel.lab.judges.judge import ASSETS, unpacked
from emokernel.lab.judges.transformers_classifier import TransformersClassifier
from emokernel.lab.measure.classifiers import weights_digest
from emokernel.lab.measure.sentences import load_encoder, mean_of_tokens

NAME, BASE = "goemotions-minilm", "sentence-transformers/all-MiniLM-L6-v2"
GOEMOTIONS_MINILM_PATH = ASSETS / "goemotions_minilm"


class SentenceClassifier(nn.Module):
    """Logits that are linear in the mean of an encoder's last hidden states over a text's tokens.

    They are divided by ``temperature``.
    """

    def __init__(self, encoder: PreTrainedModel, labels: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.temperature = encoder, temperature
        self.output = nn.Linear(encoder.config.hidden_size, labels)

    @property
    def config(self) -> PretrainedConfig:
        """The encoder's."""
        return self.encoder.config

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return self.encoder.device

    def forward(self, attention_mask: Tensor, **inputs: Tensor) -> SequenceClassifierOutput:
        """Logits [n, labels] of n texts as the encoder's tokenizer gives them."""
        mean = mean_of_tokens(self.encoder, attention_mask, **inputs)
        return SequenceClassifierOutput(logits=self.output(mean) / self.temperature)


class GoEmotionsMiniLM(TransformersClassifier):
    """The judge; ``made_from`` says what only judges with the same weights are made from."""

    folder: ClassVar[Path] = GOEMOTIONS_MINILM_PATH

    def __init__(
        self,
        model: SentenceClassifier,
        tokenizer: PreTrainedTokenizerBase,
        labels: Sequence[str],
        made_from: bytes,
        *,
        progress: bool = False,
    ) -> None:
        super().__init__(model, tokenizer, NAME, labels, multi_label=False, progress=progress)
        self._digest = hashlib.sha256(made_from).hexdigest()

    def digest(self) -> str:
        """Hash of what was learnt and of its base: of their sum the last bits may differ."""
        return self._digest


def load_judge(
    base: str | Path | None = None,
    *,
    folder: Path = GOEMOTIONS_MINILM_PATH,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> GoEmotionsMiniLM:
    """The judge in ``folder``, which is the one that ships, on the encoder in the folder ``base``.

    The base is fetched unless it is given. ``device``, ``progress``: as
    `emokernel.lab.judges.load_classifier` says it. FileNotFoundError where there is no judge,
    EmokernelError for another base than the one that it was trained on.
    """
    if not (folder / "judge.safetensors").is_file() or not (folder / "judge.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no judge (judge.safetensors and judge.json): install emokernel again,"
            " or train it with `python -m embedded.transformer_judge --data DIR` in benchmarks/"
        )
    settings = json.loads((folder / "judge.json").read_text("utf-8"))
    if base is None:
        from emokernel.weights import fetched

        base = fetched("minilm")
    encoder, tokenizer = load_encoder(base)
    if weights_digest([encoder]) != settings["base_digest"]:
        raise EmokernelError(
            f"{base} does not hold the weights that the judge {NAME!r} was trained on"
            f" ({BASE}): remove that folder, and they are fetched again"
        )
    model = SentenceClassifier(encoder, len(settings["labels"]), settings["temperature"])
    learnt = (folder / "judge.safetensors").read_bytes()
    add_learnt(model, unpacked(load(learnt)))
    return GoEmotionsMiniLM(
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")),
        tokenizer,
        settings["labels"],
        f"{settings['base_digest']} {settings['temperature']} ".encode() + learnt,
        progress=progress,
    )


@torch.no_grad()
def add_learnt(model: SentenceClassifier, learnt: Mapping[str, Tensor]) -> None:
    """Add to the encoder what was learnt, and set the output layer.

    ``learnt``: fp32 by name: "output.weight", "output.bias", and what changes a parameter of the
    encoder: "PARAMETER/down" [rank, inputs] and "PARAMETER/up" [rank, outputs], the factors of a
    matrix's change, or "PARAMETER/change". KeyError for a parameter that it has not got.
    """
    parameters = dict(model.encoder.named_parameters())
    for name, value in learnt.items():
        parameter, slash, kind = name.rpartition("/")
        if kind == "up":
            parameters[parameter].add_(value.T @ learnt[f"{parameter}/down"])
        elif kind == "change":
            parameters[parameter].add_(value)
        elif not slash:
            model.get_parameter(name).copy_(value)
