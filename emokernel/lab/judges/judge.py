"""The judges that ship: small classifiers of the 28 GoEmotions labels, independent of the embedded
model; one evaluates, the other, fitted to text that the first never saw, calibrates.

Their features are hashed n-grams: no vocabulary, so no word of the training text is stored.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from emokernel.lab.measure.classifiers import weights_digest

ASSETS = Path(__file__).parent / "assets"
JUDGE_PATH, CALIBRATION_JUDGE_PATH = ASSETS / "judge", ASSETS / "calibration_judge"
MAX_TOKENS = 48

# Of each token of a text: its word bucket and its character buckets.
Encoded = list[tuple[int, list[int]]]
# The word and the character buckets of a text.
LinearEncoded = tuple[list[int], list[int]]
_TOKEN = re.compile(r"\[[a-z]+\]|[a-z]+(?:'[a-z]+)?|\d+|[^\w\s]")


def tokens(text: str) -> list[str]:
    """Lower-case words, numbers, punctuation marks and emoji, each a token."""
    return _TOKEN.findall(text.lower().replace("’", "'"))


def word_ngrams(words: Sequence[str]) -> list[str]:
    """The words and the pairs of neighbouring words, with marks at both ends of the text."""
    return [*words, *(f"{left} {right}" for left, right in pairwise(["<", *words, ">"]))]


def character_ngrams(word: str) -> list[str]:
    """Pieces of 3 to 5 characters of a word with its ends marked; a mark or number stays whole."""
    marked = f"<{word}>"
    if not word[0].isalpha():
        return [marked]
    return [
        marked[start : start + length]
        for length in (3, 4, 5)
        for start in range(len(marked) - length + 1)
    ]


def bucket(feature: str, buckets: int) -> int:
    """The bucket of a feature: a checksum, so it is the same on every machine."""
    return zlib.crc32(feature.encode(errors="surrogatepass")) % buckets


def bag(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """The features of n items, which may have none, as `torch.nn.EmbeddingBag` takes them.

    Bucket numbers [features], the first feature of each item [n], and weights [features]: one over
    the root of the number of features of the item, so that long items do not outweigh short ones.
    """
    counts = torch.tensor([len(row) for row in rows])
    buckets = torch.tensor([number for row in rows for number in row], dtype=torch.long)
    weights = counts.float().rsqrt().repeat_interleave(counts)
    return buckets, counts.cumsum(0) - counts, weights


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


class LinearNetwork(nn.Module):
    """Logits that are linear in the word and character n-grams of a text."""

    SETTINGS = ("buckets",)

    def __init__(self, labels: int, buckets: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.buckets, self.dropout = buckets, dropout
        self.words = nn.EmbeddingBag(buckets, labels, mode="sum")
        self.characters = nn.EmbeddingBag(buckets, labels, mode="sum")
        self.bias = nn.Parameter(torch.zeros(labels))
        nn.init.zeros_(self.words.weight)
        nn.init.zeros_(self.characters.weight)

    def encode(self, text: str) -> LinearEncoded:
        """The buckets of all of `text`."""
        words = tokens(text)
        pieces = [piece for word in words if word[0].isalpha() for piece in character_ngrams(word)]
        return (
            [bucket(feature, self.buckets) for feature in word_ngrams(words)],
            [bucket(piece, self.buckets) for piece in pieces],
        )

    def forward(self, texts: Sequence[LinearEncoded]) -> Tensor:
        """Logits [n, labels] of n encoded texts; in training some features count nothing."""
        logits, tables = self.bias, (self.words, self.characters)
        for table, rows in zip(tables, zip(*texts, strict=True), strict=True):
            buckets, offsets, weights = bag(rows)
            weights = F.dropout(weights, self.dropout, self.training)
            logits = logits + table(buckets, offsets, weights)
        return logits


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
        networks.load_state_dict(unpacked(load_file(folder / "judge.safetensors")))
        return cls(list(networks), settings["labels"], settings["temperature"])


class CalibrationJudge(Judge):
    """The judge that chooses strengths, so that the evaluating `Judge` never sees them chosen."""

    name = "embedded-calibration"
    network: ClassVar[type[nn.Module]] = LinearNetwork
    folder: ClassVar[Path] = CALIBRATION_JUDGE_PATH
    script: ClassVar[str] = "embedded.calibration_judge"


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In fp32: tables are stored in 8 bits, the scales of their rows under "NAME/scale"."""
    return {
        name: value.float() * tensors.get(f"{name}/scale", 1.0)
        for name, value in tensors.items()
        if not name.endswith("/scale")
    }
