"""Train the embedded language model.

    python -m embedded.language_model --data DIR

A Llama of 3.4 million parameters on documents `bos [prefix] text eos`. The corpus is small, so
everything here is against overfitting: dropout on the embedding and on every branch, weight decay,
an average over the weights, and the checkpoint that is best on held-out text.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from embedded.clean import clean
from embedded.corpus import heldout_examples, language_examples
from embedded.relabel import Example
from embedded.tokenizer import train_tokenizer
from emokernel.atomic import write_text
from emokernel.demo.model import MODEL_PATH
from emokernel.lab.measure.conditions import CONDITIONS, prefix

Document = list[int]

IGNORED = -100

# How it is trained: `ema` is the decay of the average of the weights, `without_prefix` the share of
# lines with an emotion that lose its prefix.
SETTINGS = SimpleNamespace(
    without_prefix=0.2,
    epochs=14,
    batch=96,
    lr=2e-3,
    dropout=0.15,
    weight_decay=0.1,
    ema=0.998,
    seed=0,
)
# The most often that a line of a rare emotion is repeated.
MOST_REPEATS = 3.0


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model of the embedded size."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def add_branch_dropout(
    model: LlamaForCausalLM, p: float
) -> list[torch.utils.hooks.RemovableHandle]:
    """Dropout after the embedding and after both branches of each block, while training only."""

    def drop(module: nn.Module, _: object, output: Tensor) -> Tensor:
        return F.dropout(output, p, module.training)

    places = [model.model.embed_tokens]
    for layer in model.model.layers:
        places += [layer.self_attn.o_proj, layer.mlp.down_proj]
    return [place.register_forward_hook(drop) for place in places]


class Sampler:
    """Draws the documents of one epoch, with rare emotions repeated and some prefixes left out.

    Lines without emotion have no prefix either, so the model sees plain text about half of the
    time, whatever `without_prefix` adds.
    """

    def __init__(self, examples: list[Example], tokenizer: PreTrainedTokenizerFast) -> None:
        self._random = random.Random(SETTINGS.seed)
        self._bos, self._eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self._prefixes = {c: tokenizer.convert_tokens_to_ids(prefix(c)) for c in CONDITIONS}
        texts = tokenizer([e.text for e in examples], add_special_tokens=False)["input_ids"]
        known = [tuple(n for n in e.emotions if n in CONDITIONS) for e in examples]
        self._documents = list(zip(texts, known, strict=True))
        counts = Counter(name for names in known for name in names)
        typical = sum(counts.values()) / len(counts)
        self._repeats = {
            name: min(max(math.sqrt(typical / count), 1.0), MOST_REPEATS)
            for name, count in counts.items()
        }
        self._counts = counts

    def epoch(self) -> list[Document]:
        """Documents `bos [prefix] text eos` in random order."""
        documents = []
        for text, names in self._documents:
            repeats = max((self._repeats[name] for name in names), default=1.0)
            for _ in range(int(repeats + self._random.random())):
                head = [self._bos]
                if names and self._random.random() >= SETTINGS.without_prefix:
                    # Of several emotions the rarest says most about the line.
                    chances = [1 / self._counts[name] for name in names]
                    head.append(self._prefixes[self._random.choices(names, chances)[0]])
                documents.append([*head, *text, self._eos])
        self._random.shuffle(documents)
        return documents

    def batches(self, size: int) -> Iterator[list[Document]]:
        """One epoch in batches of `size` documents of similar length."""
        documents = self.epoch()
        pool = size * 32
        batches = []
        for start in range(0, len(documents), pool):
            part = sorted(documents[start : start + pool], key=len)
            batches += [part[i : i + size] for i in range(0, len(part), size)]
        self._random.shuffle(batches)
        yield from batches


def collate(batch: list[Document], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded ids and labels, each [documents, longest]; labels of padding are `IGNORED`."""
    rows = [torch.tensor(row, device=device) for row in batch]
    return pad_sequence(rows, True, pad), pad_sequence(rows, True, IGNORED)


def loss_sum(model: nn.Module, ids: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Summed cross-entropy of the next tokens, and how many there were."""
    mask = (labels != IGNORED).long()
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    targets = labels[:, 1:].flatten()
    loss = F.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="sum"
    )
    return loss, int((targets != IGNORED).sum())


@torch.no_grad()
def perplexity(model: nn.Module, documents: list[Document], pad: int) -> float:
    """Perplexity per token, end of text included."""
    model.eval()
    device = next(model.parameters()).device
    total, tokens = 0.0, 0
    ordered = sorted(documents, key=len)
    for start in range(0, len(ordered), 64):
        loss, count = loss_sum(model, *collate(ordered[start : start + 64], pad, device))
        total, tokens = total + loss.item(), tokens + count
    return math.exp(total / tokens)


def heldout_documents(
    data: Path, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[Document], list[Document]]:
    """Cleaned GoEmotions dev with the prefix of its first known emotion, and without prefix."""
    prefixed, plain = [], []
    for example in heldout_examples(data, "dev"):
        text = clean(example.text)
        names = [name for name in example.emotions if name in CONDITIONS]
        if text is None or not names:
            continue
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        prefixed.append([bos, tokenizer.convert_tokens_to_ids(prefix(names[0])), *ids, eos])
        plain.append([bos, *ids, eos])
    return prefixed, plain


def train(data: Path, out: Path) -> None:
    """Train tokenizer and model and save both, with what was measured, into `out`."""
    torch.manual_seed(SETTINGS.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    examples = language_examples(data)
    tokenizer = train_tokenizer(example.text for example in examples)
    model = build_model(tokenizer)
    model.config.attention_dropout = SETTINGS.dropout
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = SETTINGS.dropout
    model.to(device)
    sampler = Sampler(examples, tokenizer)
    prefixed, plain = heldout_documents(data, tokenizer)
    pad = tokenizer.pad_token_id

    hooks = add_branch_dropout(model, SETTINGS.dropout)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(SETTINGS.ema))
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": SETTINGS.weight_decay},
              {"params": others, "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=SETTINGS.lr, betas=(0.9, 0.98), fused=True)
    steps_per_epoch = len(list(sampler.batches(SETTINGS.batch)))
    steps = steps_per_epoch * SETTINGS.epochs
    warmup = min(300, steps // 10)

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.02 + 0.49 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    best, best_state, history, started = math.inf, {}, [], time.monotonic()
    progress = tqdm(total=steps, desc="training", unit=" steps", mininterval=10)
    for epoch in range(1, SETTINGS.epochs + 1):
        model.train()
        total, tokens = 0.0, 0
        for documents in sampler.batches(SETTINGS.batch):
            if progress.n == steps:
                break
            with torch.autocast(device.type, torch.bfloat16):
                loss, count = loss_sum(model, *collate(documents, pad, device))
            (loss / count).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            average.update_parameters(model)
            total, tokens = total + loss.item(), tokens + count
            progress.update()
        heldout = perplexity(average.module, prefixed, pad)
        history.append({"epoch": epoch, "train": math.exp(total / tokens), "heldout": heldout})
        tqdm.write(f"{history[-1]} lr {schedule.get_last_lr()[0]:.2e}")
        if heldout < best:
            best = heldout
            best_state = {k: v.detach().clone() for k, v in average.module.state_dict().items()}
    progress.close()

    for hook in hooks:
        hook.remove()
    model.load_state_dict(best_state)
    model.config.attention_dropout = 0.0
    model = model.eval().to(torch.float16)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    card = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_lines": len(examples),
        "heldout_lines": len(plain),
        "heldout_perplexity_with_prefix": perplexity(model.float(), prefixed, pad),
        "heldout_perplexity_without_prefix": perplexity(model.float(), plain, pad),
        "training_seconds": round(time.monotonic() - started),
        "device": device.type,
        "arguments": vars(SETTINGS),
        "history": history,
    }
    write_text(out / "training.json", json.dumps(card, indent=1) + "\n")


def main() -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with goemotions/ and xed/")
    parser.add_argument("--out", type=Path, default=MODEL_PATH, help="folder for the trained model")
    arguments = parser.parse_args()
    train(arguments.data, arguments.out)


if __name__ == "__main__":
    main()
