"""The judge: a small classifier of the 28 GoEmotions labels, independent of the embedded model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emokernel.atomic import replacing, write_text
from emokernel.lab.judges.features import bag, bucket, character_ngrams, tokens
from emokernel.lab.measure.classifiers import weights_digest

JUDGE_PATH = Path(__file__).parent / "assets" / "judge"
MAX_TOKENS = 48

# Of each token of a text: its word bucket and its character buckets.
Encoded = list[tuple[int, list[int]]]


class JudgeNetwork(nn.Module):
    """Logits of a convolution over hashed words, pooled over the text by maximum and by sum."""

    SETTINGS = ("buckets", "width", "channels")

    def __init__(
        self, labels: int, buckets: int, width: int, channels: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.buckets, self.width, self.channels = buckets, width, channels
        self.dropout = dropout
        self.words = nn.Embedding(buckets, width)
        self.characters = nn.EmbeddingBag(buckets, width, mode="sum")
        self.convolution = nn.Conv1d(width, channels, kernel_size=3, padding=1)
        self.output = nn.Linear(2 * channels, labels)
        for table in (self.words, self.characters):
            nn.init.normal_(table.weight, std=0.1)

    def encode(self, text: str) -> Encoded:
        """The buckets of the first tokens of `text`."""
        return [
            (bucket(word, self.buckets), [bucket(n, self.buckets) for n in character_ngrams(word)])
            for word in tokens(text)[:MAX_TOKENS] or ["."]
        ]

    def forward(self, texts: Sequence[Encoded]) -> Tensor:
        """Logits [n, labels] of n encoded texts."""
        longest = max(map(len, texts))
        padded = [text + [(0, [])] * (longest - len(text)) for text in texts]
        mask = torch.arange(longest) < torch.tensor([len(text) for text in texts])[:, None]
        words = torch.tensor([[word for word, _ in text] for text in padded])
        characters = self.characters(*bag([numbers for text in padded for _, numbers in text]))
        hidden = self.words(words) + characters.view(*words.shape, -1)
        if self.training:
            # Whole words go missing as well, so that no single one decides alone.
            kept = torch.rand(words.shape) >= self.dropout / 3
            hidden = F.dropout(hidden * kept[..., None], self.dropout)
        hidden = hidden * mask[..., None]
        features = F.gelu(self.convolution(hidden.transpose(1, 2)))
        most = features.masked_fill(~mask[:, None], -1e4).amax(2)
        total = (features * mask[:, None]).sum(2) * mask.sum(1, keepdim=True).rsqrt()
        pooled = F.dropout(torch.cat([most, total], dim=1), self.dropout, self.training)
        return self.output(pooled)


class Judge:
    """An average of several networks, with a temperature that calibrates its probabilities.

    A `TextClassifier` (`emokernel.lab.measure.classifiers`). A judge of other networks is a
    subclass that says which, where it is and what made it. A network is built from the number of
    labels and its `SETTINGS`, has `encode(text)`, and gives the logits of encoded texts.
    """

    name = "embedded-evaluation"
    multi_label = False
    network: ClassVar[type[nn.Module]] = JudgeNetwork
    folder: ClassVar[Path] = JUDGE_PATH
    script: ClassVar[str] = "embedded.judge"

    def __init__(
        self, networks: Sequence[nn.Module], labels: Sequence[str], temperature: float = 1.0
    ) -> None:
        self.networks = [network.eval() for network in networks]
        self.labels = tuple(labels)
        self.temperature = temperature

    def digest(self) -> str:
        """Hash of the networks' weights."""
        return weights_digest(self.networks)

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[str], batch: int = 256) -> Tensor:
        """Probability of each label for each text, [n, 28], every row with sum 1."""
        parts = [self._logits(texts[i : i + batch]) for i in range(0, len(texts), batch)]
        if not parts:
            return torch.empty(0, len(self.labels))
        return F.softmax(torch.cat(parts) / self.temperature, dim=1)

    def _logits(self, texts: Sequence[str]) -> Tensor:
        """Log of the networks' mean probability, [n, labels]."""
        encoded = [self.networks[0].encode(text) for text in texts]
        each = [F.softmax(network(encoded), dim=1) for network in self.networks]
        return torch.stack(each).mean(0).log()

    def save(self, path: Path, **measured: object) -> None:
        """Write `judge.safetensors`, tables in 8 bits, and `judge.json` with what was measured."""
        settings = {
            "labels": self.labels,
            "temperature": self.temperature,
            "networks": len(self.networks),
            **{name: getattr(self.networks[0], name) for name in self.network.SETTINGS},
        }
        path.mkdir(parents=True, exist_ok=True)
        with replacing(path / "judge.safetensors") as unfinished:
            save_file(_packed(nn.ModuleList(self.networks).state_dict()), unfinished)
        text = json.dumps(settings | measured, indent=1, ensure_ascii=False)
        write_text(path / "judge.json", text + "\n")

    @classmethod
    def load(cls, path: str | Path | None = None) -> Judge:
        """The judge saved in the folder `path`, or the one that ships with the package."""
        folder = cls.folder if path is None else Path(path)
        if not (folder / "judge.safetensors").is_file() or not (folder / "judge.json").is_file():
            raise FileNotFoundError(
                f"{folder} holds no judge (judge.safetensors and judge.json): install emokernel "
                f"again, or train it with `python -m {cls.script} --data DIR` in benchmarks/"
            )
        settings = json.loads((folder / "judge.json").read_text("utf-8"))
        sizes = {name: settings[name] for name in cls.network.SETTINGS}
        networks = nn.ModuleList(
            cls.network(len(settings["labels"]), **sizes) for _ in range(settings["networks"])
        )
        networks.load_state_dict(_unpacked(load_file(folder / "judge.safetensors")))
        return cls(list(networks), settings["labels"], settings["temperature"])


def _packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors to store for a state dict.

    A table [rows, width] becomes 8-bit integers and one fp32 scale for each row, in a tensor of
    its own whose name ends in "/scale"; anything else becomes fp16.
    """
    tensors = {}
    for name, value in state.items():
        if value.ndim != 2:
            tensors[name] = value.half()
            continue
        scale = (value.abs().amax(1, keepdim=True) / 127).clamp_min(1e-8)
        tensors[name] = (value / scale).round().to(torch.int8)
        tensors[f"{name}/scale"] = scale.float()
    return tensors


def _unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict in fp32 of what `_packed` gave."""
    return {
        name: value.float() * tensors.get(f"{name}/scale", 1.0)
        for name, value in tensors.items()
        if not name.endswith("/scale")
    }
