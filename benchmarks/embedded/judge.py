"""Train the judge on its half of the GoEmotions training comments.

    python -m embedded.judge --data DIR [--figures-only]

The comments are taken as they were written: features are hashed, so no word of them is stored.
Dev chooses the epoch, the temperature and the threshold; test gives the final figures only.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from embedded.corpus import emotion_labels, heldout_examples, training_half
from embedded.relabel import Example, distributions
from emokernel.atomic import replacing, write_text
from emokernel.lab.evaluate.ceiling import confusion
from emokernel.lab.judges.judge import Judge, JudgeNetwork
from emokernel.lab.measure.classifiers import TextClassifier

# How many are averaged, and what each is made and trained with.
NETWORKS = 2
SIZES = {"buckets": 1 << 14, "width": 48, "channels": 160, "dropout": 0.5}
EPOCHS, BATCH, RATE = 6, 64, 4e-3
# Of the average of the weights.
DECAY = 0.99

DEFINITIONS = {
    "accuracy_any_label": "share of all rows whose most probable label is among the row's labels",
    "accuracy_single_label": "share of the rows with exactly one label whose most probable label "
    "is that label",
    "macro_f1": "mean over the 28 labels of the F1 of 'probability >= threshold' against the "
    "row's labels, all rows; one threshold, chosen on dev",
    "macro_f1_single_label": "mean over the 28 labels of the F1 of the most probable label, rows "
    "with exactly one label",
    "log_loss": "mean over all rows of the cross-entropy with equal shares for the row's labels",
    "calibration_error": "expected calibration error of the most probable label against "
    "accuracy_any_label, 10 bins of equal width",
}


def train_network(
    network: JudgeNetwork, texts: Sequence[str], targets: Tensor, seed: int
) -> Iterator[JudgeNetwork]:
    """Train and, after each epoch, give the average over the weights so far."""
    rng = random.Random(seed)
    encoded = [network.encode(text) for text in texts]
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    steps = EPOCHS * -(-len(encoded) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for epoch in range(EPOCHS):
        network.train()
        # Texts of about the same length share a batch.
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]) + 6 * rng.random())
        batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        rng.shuffle(batches)
        for chosen in tqdm(batches, desc=f"judge epoch {epoch + 1}/{EPOCHS}", unit=" steps"):
            loss = F.cross_entropy(network([encoded[i] for i in chosen]), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                    mean.lerp_(value, 1 - DECAY)
        yield average


def log_loss(probabilities: Tensor, targets: Tensor) -> float:
    """Mean cross-entropy of `probabilities` [n, labels] with the distributions `targets`."""
    return float(-(targets * probabilities.clamp_min(1e-9).log()).sum(1).mean())


def macro_f1(predicted: Tensor, truth: Tensor) -> float:
    """Mean F1 over the columns of two boolean [n, labels]; a label never in either counts 0."""
    hits = (predicted & truth).sum(0)
    return float((2 * hits / (predicted.sum(0) + truth.sum(0)).clamp_min(1)).mean())


def calibration_error(probabilities: Tensor, truth: Tensor) -> float:
    """Expected calibration error of the most probable label, 10 bins."""
    confidence, top = probabilities.max(1)
    correct = truth[torch.arange(len(truth)), top].float()
    bins = (confidence * 10).long().clamp_max(9)
    gaps = [
        (bins == b).float().mean()
        * (confidence[bins == b].mean() - correct[bins == b].mean()).abs()
        for b in bins.unique()
    ]
    return float(torch.stack(gaps).sum())


def figures(probabilities: Tensor, targets: Tensor, threshold: float) -> dict[str, float]:
    """The figures of `DEFINITIONS`."""
    truth = targets > 0
    single = truth.sum(1) == 1
    top = F.one_hot(probabilities.argmax(1), truth.shape[1]).bool()
    values = {
        "accuracy_any_label": float((top & truth).any(1).float().mean()),
        "accuracy_single_label": float((top & truth)[single].any(1).float().mean()),
        "macro_f1": macro_f1(probabilities >= threshold, truth),
        "macro_f1_single_label": macro_f1(top[single], truth[single]),
        "log_loss": log_loss(probabilities, targets),
        "calibration_error": calibration_error(probabilities, truth),
    }
    return {name: round(value, 4) for name, value in values.items()}


def texts_and_targets(
    examples: Sequence[Example], labels: Sequence[str]
) -> tuple[list[str], Tensor]:
    """The texts, and their labels as distributions [n, labels]."""
    return [e.text for e in examples], distributions([e.emotions for e in examples], labels)


def best_temperature(probabilities: Tensor, targets: Tensor) -> tuple[float, float]:
    """(log loss, temperature) with the least log loss, of ``probabilities`` at temperature 1."""
    logs = probabilities.log()
    return min(
        (log_loss(F.softmax(logs / t, dim=1), targets), t)
        for t in (0.5 + 0.05 * step for step in range(31))
    )


def save(judge: Judge, path: Path, **measured: object) -> None:
    """Write `judge.safetensors`, tables in 8 bits, and `judge.json` with what was measured."""
    settings = {
        "labels": judge.labels,
        "temperature": judge.temperature,
        "networks": len(judge.networks),
        **{name: getattr(judge.networks[0], name) for name in judge.network.SETTINGS},
    }
    path.mkdir(parents=True, exist_ok=True)
    with replacing(path / "judge.safetensors") as unfinished:
        save_file(packed(nn.ModuleList(judge.networks).state_dict()), unfinished)
    text = json.dumps(settings | measured, indent=1, ensure_ascii=False)
    write_text(path / "judge.json", text + "\n")


def packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def save_with_figures(judge: Judge, data: Path, out: Path, **more: object) -> None:
    """Calibrate the judge on dev and save it into `out` with its figures on dev and test."""
    dev_texts, dev_targets = texts_and_targets(heldout_examples(data, "dev"), judge.labels)
    _, judge.temperature = best_temperature(judge.probabilities(dev_texts), dev_targets)
    save(judge, out, **more)
    write_figures(type(judge).load(out), data, out)


def write_figures(judge: TextClassifier, data: Path, out: Path) -> None:
    """Measure the judge that is stored in `out` on dev and test; its weights stay as they are.

    The threshold is chosen on dev. `confusion` is of the test rows with exactly one label, see
    `emokernel.lab.evaluate.ceiling`.
    """
    dev_texts, dev_targets = texts_and_targets(heldout_examples(data, "dev"), judge.labels)
    dev = judge.probabilities(dev_texts)
    threshold = best_threshold(dev, dev_targets)
    examples = heldout_examples(data, "test")
    test_texts, test_targets = texts_and_targets(examples, judge.labels)
    single = [example for example in examples if len(example.emotions) == 1]
    measured = {
        "threshold": threshold,
        "dev": figures(dev, dev_targets, threshold),
        "test": figures(judge.probabilities(test_texts), test_targets, threshold),
        "test_rows": len(test_texts),
        "definitions": DEFINITIONS,
        "confusion": confusion(judge, [e.text for e in single], [e.emotions[0] for e in single]),
    }
    path = out / "judge.json"
    known = json.loads(path.read_text("utf-8"))
    write_text(path, json.dumps(known | measured, indent=1, ensure_ascii=False) + "\n")


def best_threshold(probabilities: Tensor, targets: Tensor) -> float:
    """The threshold of all labels with the highest macro-F1."""
    return max(
        (step / 100 for step in range(5, 60)),
        key=lambda value: macro_f1(probabilities >= value, targets > 0),
    )


def train(data: Path, out: Path) -> None:
    """Train the judge and save it with its figures into `out`."""
    started = time.monotonic()
    labels = emotion_labels(data)
    texts, targets = texts_and_targets(training_half(data, "judge"), labels)
    dev_texts, dev_targets = texts_and_targets(heldout_examples(data, "dev"), labels)
    networks = []
    for member in range(NETWORKS):
        torch.manual_seed(member)
        network = JudgeNetwork(len(labels), **SIZES)
        best, chosen = float("inf"), network
        for average in train_network(network, texts, targets, member):
            loss = log_loss(Judge([average], labels).probabilities(dev_texts), dev_targets)
            tqdm.write(f"network {member}: dev log loss {loss:.4f}")
            if loss < best:
                best, chosen = loss, copy.deepcopy(average)
        networks.append(chosen)
    save_with_figures(
        Judge(networks, labels),
        data,
        out,
        training_rows=len(texts),
        training_seconds=round(time.monotonic() - started),
        published="58.9 % accuracy of a BERT on the 28 classes, arXiv 2504.14706",
    )


def figures_or_train(about: str, kind: type[Judge], train: Callable[[Path, Path], None]) -> None:
    """Parse the command line and train, or with --figures-only measure the judge that is there."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with goemotions/ and xed/")
    parser.add_argument("--out", type=Path, default=kind.folder, help="folder for the judge")
    parser.add_argument(
        "--figures-only", action="store_true", help="measure the judge in --out, do not train it"
    )
    arguments = parser.parse_args()
    if arguments.figures_only:
        write_figures(kind.load(arguments.out), arguments.data, arguments.out)
    else:
        train(arguments.data, arguments.out)


if __name__ == "__main__":
    figures_or_train(__doc__, Judge, train)
