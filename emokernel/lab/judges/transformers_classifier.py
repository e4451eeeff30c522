"""Text classification models of transformers as `TextClassifier`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm

from emokernel.errors import EmokernelError, UnknownEmotionError
from emokernel.lab.measure.classifiers import weights_digest

# Tokenizers without a limit of their own say something like 1e30.
_NO_LIMIT = 1_000_000
# The RoBERTa family counts positions from 2.
_POSITIONS_KEPT = 2


class TransformersClassifier:
    """A sequence classification model with its tokenizer; texts share a batch by length.

    ``labels`` are the names of the model's outputs in their order.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer,
        name: str,
        labels: Sequence[str],
        *,
        multi_label: bool,
        batch: int = 32,
        progress: bool = False,
    ) -> None:
        self.name, self.labels, self.multi_label = name, tuple(labels), multi_label
        self.model, self.tokenizer, self.progress = model.eval(), tokenizer, progress
        # A model that knows no padding takes texts one by one.
        self.batch = batch if tokenizer.pad_token_id is not None else 1
        if model.config.pad_token_id is None:
            model.config.pad_token_id = tokenizer.pad_token_id
        self.longest = _longest(model.config, tokenizer)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        revision: str | None,
        device: str | torch.device | None,
        labels: Mapping[str, str],
        multi_label: bool | None,
        progress: bool,
    ) -> TransformersClassifier:
        """As `emokernel.lab.judges.load_classifier` says it; weights in fp32."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            name, revision=revision, dtype=torch.float32, output_loading_info=True
        )
        if loaded["missing_keys"]:
            raise EmokernelError(
                f"{name!r} is no text classifier: its weights lack"
                f" {', '.join(sorted(loaded['missing_keys']))}; name a model that was trained for"
                " text classification"
            )
        kind = model.config.problem_type
        if kind == "regression" or (model.config.num_labels < 2 and not multi_label):
            raise EmokernelError(
                f"{name!r} gives a score, not the probabilities of emotions: name a model with"
                " several labels"
            )
        if multi_label is None:
            multi_label = kind == "multi_label_classification"
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(
            model.to(device),
            tokenizer,
            name,
            _label_names(name, model.config.id2label, labels),
            multi_label=multi_label,
            progress=progress,
        )

    def digest(self) -> str:
        """Hash of the model's weights."""
        return weights_digest([self.model])

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[str]) -> Tensor:
        """Probability of each label for each text, fp32 [n, labels] on the CPU.

        A text that is longer than the model takes is cut off.
        """
        if isinstance(texts, str):
            raise EmokernelError("pass a list of texts, not one text")
        probabilities = torch.empty(len(texts), len(self.labels))
        if not texts:
            return probabilities
        # Some tokenizers make no token at all of an empty text.
        written = [text if text.strip() else "." for text in texts]
        encoded = self.tokenizer(written, truncation=True, max_length=self.longest)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(texts)), key=lengths.__getitem__, reverse=True)
        batches = [order[i : i + self.batch] for i in range(0, len(order), self.batch)]
        for chosen in tqdm(batches, desc=self.name, unit=" batches", disable=not self.progress):
            rows = {key: [values[i] for i in chosen] for key, values in encoded.items()}
            if self.batch > 1:
                rows = self.tokenizer.pad(rows)
            inputs = {name: torch.tensor(v, device=self.model.device) for name, v in rows.items()}
            logits = self.model(**inputs).logits.float()
            read = logits.sigmoid() if self.multi_label else logits.softmax(-1)
            probabilities[chosen] = read.cpu()
        return probabilities


def _longest(config, tokenizer) -> int:
    if tokenizer.model_max_length < _NO_LIMIT:
        return tokenizer.model_max_length
    return getattr(config, "max_position_embeddings", 512 + _POSITIONS_KEPT) - _POSITIONS_KEPT


def _label_names(
    name: str, id2label: Mapping[int, str], given: Mapping[str, str]
) -> tuple[str, ...]:
    known = [id2label[number].lower() for number in range(len(id2label))]
    replaced = {label.lower(): new.lower() for label, new in given.items()}
    for label in replaced:
        if label not in known:
            raise EmokernelError(
                f"{UnknownEmotionError(label, known)} These are the labels of {name!r}."
            )
    labels = [replaced.get(label, label) for label in known]
    nameless = [label for label in labels if re.fullmatch(r"label_\d+|\d+|", label)]
    if nameless:
        raise EmokernelError(
            f"{name!r} does not say what its labels mean ({', '.join(nameless)}): look it up and"
            ' pass labels={"LABEL_0": "joy", ...} (--judge-label LABEL_0=joy)'
        )
    if len(set(labels)) < len(labels):
        raise EmokernelError(
            f"two labels of {name!r} have the same name: {', '.join(labels)}; give each its own,"
            " and say with a mapping which of them count for an emotion"
        )
    return tuple(labels)
