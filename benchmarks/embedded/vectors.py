"""Make the emotion vectors of the embedded model, and calibrate them.

    python -m embedded.vectors --data DIR

The lines of each emotion are read twice, behind the prefix token of the emotion and behind the
neutral one; the vector is the difference of the two means, prefixes not averaged over, less a share
of what all emotions have in common. Vectors for both sites compete in the calibration, whose
openings and judge are not those of the demo.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from embedded.corpus import language_examples
from emokernel import EmotionVectors
from emokernel.choices import SITE
from emokernel.demo.model import load_model
from emokernel.demo.vectors import VECTORS_PATH
from emokernel.extras import need
from emokernel.lab.calibrate import Prompts, calibrate
from emokernel.lab.judges import load_classifier
from emokernel.lab.measure.conditions import CONDITIONS, prefix
from emokernel.lab.report.frontier_plot import plot_frontier

# The share of what all emotions have in common, and the openings of the calibration.
REMOVE_BASE, PROMPTS = 0.25, 100
DATA = (
    "single-emotion lines of GoEmotions (CC BY 4.0; the half not used by the evaluating judge) and"
    " XED (CC BY 4.0), cleaned, behind the prefix of their emotion and behind the neutral one"
)


def lines_of(data: Path) -> dict[str, list[str]]:
    """The lines of the language half with one emotion, by that emotion; not the neutral ones."""
    lines: dict[str, list[str]] = {emotion: [] for emotion in CONDITIONS if emotion != "neutral"}
    for example in language_examples(data):
        if len(example.emotions) == 1 and example.emotions[0] in lines:
            lines[example.emotions[0]].append(example.text)
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with goemotions/, xed/")
    parser.add_argument("--out", type=Path, default=VECTORS_PATH)
    parser.add_argument("--frontier", type=Path, help="picture of the frontier to draw")
    parser.add_argument("--restart", action="store_true", help="rename an interrupted run")
    arguments = parser.parse_args()
    need("sklearn")
    if arguments.frontier:
        need("matplotlib")
    model, tokenizer = load_model()
    lines = lines_of(arguments.data)
    sites = [
        EmotionVectors.extract(
            model, tokenizer,
            {name: [(prefix(name), line) for line in texts] for name, texts in lines.items()},
            {name: [(prefix("neutral"), line) for line in texts] for name, texts in lines.items()},
            site=site, remove_base=REMOVE_BASE, data=DATA,
            model_id="the embedded model of emokernel.demo",
        )
        for site in SITE
    ]  # fmt: skip
    journal = arguments.out.with_name(arguments.out.name + ".calibration.partial")
    result = calibrate(
        model,
        tokenizer,
        sites,
        prompts=Prompts.of(tokenizer, count=PROMPTS),
        judge=load_classifier("embedded-calibration"),
        journal=journal,
        restart=arguments.restart,
    )
    result.vectors.save(arguments.out)
    journal.unlink()
    if arguments.frontier:
        plot_frontier(arguments.frontier, result)
    print(result.summary())


if __name__ == "__main__":
    main()
