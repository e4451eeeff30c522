"""Train the transformer among the judges on the judge's half of the GoEmotions training comments.

    python -m embedded.transformer_judge --data DIR [--base FOLDER] [--figures-only]

all-MiniLM-L6-v2 stays as it is; what is learnt are low-rank changes of it (`embedded.low_rank`) and
the layer that reads the labels. Dev chooses the temperature and the threshold, and chose the
settings; test gives the final figures only. `--halves judge language --out DIR` says what the other
half would add; such a judge has seen the text of the vectors and is not for the package.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from embedded.corpus import emotion_labels, heldout_examples, training_half
from embedded.judge import best_temperature, packed, texts_and_targets, write_figures
from embedded.low_rank import Settings, train_changes
from emokernel.atomic import replacing, write_text
from emokernel.lab.judges.goemotions_minilm import (
    BASE,
    GOEMOTIONS_MINILM_PATH,
    SentenceClassifier,
    load_judge,
)
from emokernel.lab.measure.classifiers import weights_digest
from emokernel.lab.measure.sentences import load_encoder
from emokernel.machine import machine

SEED = 0


def save(learnt: Mapping[str, Tensor], settings: Mapping[str, object], out: Path) -> None:
    """Write what `load_judge` reads: matrices in 8 bits, vectors in fp16, and ``settings``."""
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "judge.safetensors") as unfinished:
        save_file(packed(learnt), unfinished)
    write_text(out / "judge.json", json.dumps(settings, indent=1, ensure_ascii=False) + "\n")


def train(data: Path, base: Path, out: Path, halves: Sequence[str], chosen: Settings) -> None:
    """Train, calibrate on dev, and save with figures into `out`."""
    started, processor = time.monotonic(), time.process_time()
    labels = emotion_labels(data)
    examples = [example for half in halves for example in training_half(data, half)]
    texts, targets = texts_and_targets(examples, labels)
    encoder, tokenizer = load_encoder(base)
    model = SentenceClassifier(encoder, len(labels))
    *_, learnt = train_changes(model, tokenizer, texts, targets, chosen, SEED)
    settings = {
        "labels": labels,
        "temperature": 1.0,
        "base": BASE,
        "base_digest": weights_digest([encoder]),
        "training": asdict(chosen) | {"seed": SEED},
        "training_halves": list(halves),
        "training_rows": len(texts),
        "training_seconds": round(time.monotonic() - started),
        "training_processor_seconds": round(time.process_time() - processor),
        "training_machine": {name: machine()[name] for name in ("cpu", "cores", "threads")},
        "published": "58.9 % accuracy of a BERT on the 28 classes, arXiv 2504.14706; macro-F1 .46 "
        "of a BERT trained on all rows, GoEmotions (Demszky et al. 2020)",
    }
    save(learnt, settings, out)
    dev_texts, dev_targets = texts_and_targets(heldout_examples(data, "dev"), labels)
    probabilities = load_judge(base, folder=out, progress=True).probabilities(dev_texts)
    _, settings["temperature"] = best_temperature(probabilities, dev_targets)
    save(learnt, settings, out)


def main() -> None:
    """Train, or measure the judge that is there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with goemotions/")
    parser.add_argument("--base", type=Path, help=f"folder of {BASE} (fetched)")
    parser.add_argument("--out", type=Path, default=GOEMOTIONS_MINILM_PATH, help="for the judge")
    parser.add_argument("--halves", nargs="+", choices=("judge", "language"), default=["judge"])
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument(
        "--figures-only", action="store_true", help="measure the judge in --out, do not train it"
    )
    asked = parser.parse_args()
    if asked.base is None:
        from emokernel.weights import fetched

        asked.base = fetched("minilm")
    if not asked.figures_only:
        train(asked.data, asked.base, asked.out, asked.halves, Settings(epochs=asked.epochs))
    write_figures(load_judge(asked.base, folder=asked.out, progress=True), asked.data, asked.out)


if __name__ == "__main__":
    main()
