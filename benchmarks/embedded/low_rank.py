"""Training a sentence encoder by low-rank changes of its matrices."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from emokernel.lab.judges.goemotions_minilm import SentenceClassifier

# Tokens of a text that are trained on; GoEmotions has few longer ones.
LONGEST = 64


@dataclass(frozen=True)
class Settings:
    """How the encoder is trained.

    ``rates``: of the changes and of the output layer, falling to 0 after a ``warm_up``, which is a
    share of the steps. ``masked``: share of tokens that are hidden. ``decay``: of the average of
    the weights.
    """

    rank: int = 16
    epochs: int = 3
    batch: int = 32
    rates: tuple[float, float] = (1e-3, 2e-3)
    warm_up: float = 0.05
    dropout: float = 0.1
    masked: float = 0.05
    decay: float = 0.99


class LowRank(nn.Module):
    """A linear layer with a change of its matrix of a given rank, at first none."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        std = linear.in_features**-0.5
        self.down = nn.Parameter(std * torch.randn(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(rank, linear.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        return self.linear(x) + F.linear(F.linear(x, self.down), self.up.T)


class Trainee(nn.Module):
    """A `SentenceClassifier` whose matrices are frozen, in bf16, with a `LowRank` around each.

    Biases, norms and the output layer are trained in fp32; the embeddings stay as they are.
    """

    def __init__(self, model: SentenceClassifier, settings: Settings) -> None:
        super().__init__()
        # Of the base, for what has changed.
        self.base = {name: p.detach().clone() for name, p in model.encoder.named_parameters()}
        model = copy.deepcopy(model).requires_grad_(False)
        # The backward pass of the fused one in bf16 takes as long as all the rest on a CPU.
        model.encoder.set_attn_implementation("eager")
        nn.init.zeros_(model.output.weight)
        nn.init.zeros_(model.output.bias)
        model.output.requires_grad_(True)
        blocks = model.encoder.encoder
        for module in list(blocks.modules()):
            if isinstance(module, nn.LayerNorm):
                module.requires_grad_(True)
            for name, linear in list(module.named_children()):
                if isinstance(linear, nn.Linear):
                    linear.weight.data = linear.weight.bfloat16()
                    linear.bias.requires_grad_(True)
                    setattr(module, name, LowRank(linear, settings.rank))
        model.encoder.embeddings.requires_grad_(False)
        for name, module in model.named_modules():
            if isinstance(module, nn.Dropout):  # that of attention weights costs most of all
                module.p = 0.0 if name.endswith("attention.self.dropout") else settings.dropout
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.bfloat16()
        self.model = model

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits [n, labels] of tokens."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(**inputs).logits.float()

    def trained(self) -> dict[str, Tensor]:
        """The parameters that are trained, by name."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def learnt(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `add_learnt` takes, of ``values`` of the trained parameters."""
        found = {}
        for name, value in values.items():
            inner = name.removeprefix("encoder.").replace(".linear.", ".")
            if name.startswith("output."):
                found[name] = value.clone()
            elif name.endswith((".down", ".up")):
                parameter, _, kind = inner.rpartition(".")
                found[f"{parameter}.weight/{kind}"] = value.clone()
            else:
                found[f"{inner}/change"] = value - self.base[inner]
        return found


def train_changes(
    model: SentenceClassifier,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    targets: Tensor,
    settings: Settings,
    seed: int = 0,
) -> Iterator[dict[str, Tensor]]:
    """Train on ``targets`` [n, labels] and, after each epoch, give what was learnt so far.

    That is of the average over the weights of all steps, see `Settings.decay`. ``model`` stays as
    it is.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    trainee = Trainee(model, settings).train()
    encoded = tokenizer(list(texts), truncation=True, max_length=LONGEST)["input_ids"]
    trained = trainee.trained()
    average = {name: value.detach().clone() for name, value in trained.items()}
    steps = settings.epochs * -(-len(encoded) // settings.batch)
    optimizer, schedule = _optimizer(trained, settings, steps)
    for epoch in range(settings.epochs):
        # Texts of about the same length share a batch.
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]) + 4 * rng.random())
        batches = [order[i : i + settings.batch] for i in range(0, len(order), settings.batch)]
        rng.shuffle(batches)
        title = f"epoch {epoch + 1}/{settings.epochs}"
        bar = tqdm(batches, desc=title, unit=" steps", mininterval=2)
        for chosen in bar:
            inputs = tokenizer.pad({"input_ids": [encoded[i] for i in chosen]}, return_tensors="pt")
            inputs["input_ids"] = _masked(inputs["input_ids"], tokenizer, settings.masked)
            loss = F.cross_entropy(trainee.logits(inputs), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained.values(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for name, value in trained.items():
                    average[name].lerp_(value, 1 - settings.decay)
            bar.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
        yield trainee.learnt(average)


def _optimizer(
    trained: dict[str, Tensor], settings: Settings, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    groups: tuple[list[Tensor], list[Tensor]] = [], []
    for name, value in trained.items():
        groups[name.startswith("output.")].append(value)
    optimizer = torch.optim.AdamW(
        [{"params": g, "lr": rate} for g, rate in zip(groups, settings.rates, strict=True)],
        betas=(0.9, 0.98),
        weight_decay=0.0,
        fused=True,
    )
    warm = max(1, round(settings.warm_up * steps))
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / (steps - warm))
    )


def _masked(ids: Tensor, tokenizer: PreTrainedTokenizerBase, share: float) -> Tensor:
    """A share of the tokens hidden, so that no single word decides alone."""
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    hidden = (torch.rand(ids.shape) < share) & ~special
    return ids.masked_fill(hidden, tokenizer.mask_token_id)
