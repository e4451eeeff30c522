"""Fit the judge of calibration on the language half of the GoEmotions training comments.

    python -m emokernel.demo.train.calibration_judge --data DIR [--figures-only]

Neither its text nor its kind of network is that of the evaluating judge, and no probability of that
judge is used: what is calibrated with this one can be evaluated with that one. The comments are
taken as they were written: features are hashed, so no word of them is stored. Dev chooses the
penalty, the temperature and the threshold; test gives the final figures only.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

from tqdm import tqdm

from emokernel.demo.train.classifier import fit_regularised
from emokernel.demo.train.corpus import emotion_labels, heldout_examples, language_comments
from emokernel.demo.train.judge import (
    best_temperature,
    figures_or_train,
    save_with_figures,
    texts_and_targets,
)
from emokernel.extras import need
from emokernel.lab.judges.linear_judge import (
    CALIBRATION_JUDGE_PATH,
    CalibrationJudge,
    LinearNetwork,
)


def train(arguments: argparse.Namespace) -> None:
    """Fit with each penalty and save the judge with the least log loss on dev."""
    need("sklearn")
    started = time.monotonic()
    labels = emotion_labels(arguments.data)
    texts, targets = texts_and_targets(language_comments(arguments.data), labels)
    dev = texts_and_targets(heldout_examples(arguments.data), labels)
    least, chosen, penalty = float("inf"), None, {}
    grid = list(itertools.product(arguments.c, arguments.rarity))
    for c, rarity in tqdm(grid, desc="penalties", unit=" fits"):
        network = LinearNetwork(len(labels), arguments.buckets)
        fit_regularised(network, texts, targets, c=c, rarity=rarity)
        loss, temperature = best_temperature(CalibrationJudge([network], labels), *dev)
        tqdm.write(f"c {c}, rarity {rarity}: dev log loss {loss:.4f} at T = {temperature:.2f}")
        if loss < least:
            least, chosen, penalty = loss, network, {"c": c, "rarity": rarity}
    save_with_figures(
        CalibrationJudge([chosen], labels),
        arguments.data,
        arguments.out,
        penalty=penalty,
        training_rows=len(texts),
        training_seconds=round(time.monotonic() - started),
    )


def main() -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with goemotions/ and xed/")
    parser.add_argument(
        "--out", type=Path, default=CALIBRATION_JUDGE_PATH, help="folder for the judge"
    )
    parser.add_argument("--buckets", type=int, default=1 << 15, help="rows of each of two tables")
    parser.add_argument("--c", type=float, nargs="+", default=(0.4, 0.5, 0.6))
    parser.add_argument("--rarity", type=float, nargs="+", default=(0.4, 0.5))
    figures_or_train(parser, CalibrationJudge, train)


if __name__ == "__main__":
    main()
