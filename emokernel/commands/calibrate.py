"""`emokernel calibrate`: find site, layers and strengths, so that 1.0 means the same for all."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from emokernel.choices import DOSE, LAW, SITE
from emokernel.commands import arguments, models
from emokernel.commands.arguments import positive
from emokernel.commands.outputs import check_file, check_run
from emokernel.demo.named import NamedModel, named
from emokernel.errors import EmokernelError
from emokernel.extras import need
from emokernel.lab.calibrate import Bounds, Prompts, calibrate, check_inputs
from emokernel.lab.extract.queries import Queries
from emokernel.lab.measure.sampling import Sampling
from emokernel.lab.report.frontier_plot import plot_frontier
from emokernel.vectors import EmotionVectors


def add(parser: argparse.ArgumentParser) -> None:
    arguments.add_model(parser)
    parser.add_argument(
        "--vectors", type=Path, nargs="+", required=True,
        help="file of vectors; of several, the best is calibrated",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, help="calibrated file (that of --vectors)")
    arguments.add_judging(parser, NamedModel().calibrating)
    parser.add_argument(
        "--max-perplexity", type=float, default=1.5,
        help="bound: perplexity under the unsteered model, times that of unsteered text (1.5)",
    )  # fmt: skip
    parser.add_argument(
        "--min-distinct", type=float, default=0.9,
        help="bound: distinct 3-grams, times those of unsteered text (0.9)",
    )  # fmt: skip
    parser.add_argument(
        "--max-repetition", type=float, default=0.05,
        help="bound: 4-grams repeated within a text, more than in unsteered ones (0.05)",
    )  # fmt: skip
    for name, known in (("site", SITE), ("law", LAW), ("dose", DOSE)):
        parser.add_argument(f"--{name}", choices=known, help=f"try this {name} only (both)")
    parser.add_argument("--prompts", type=positive, default=40, help="how many (40)")
    parser.add_argument("--queries", type=Path, help="file of your own, the neutral ones if any")
    parser.add_argument(
        "--effort", type=float, default=1.0,
        help="how many texts are written and read, times the usual number (1)",
    )  # fmt: skip
    arguments.add_writing(parser, "28, in a chat 64")


def run(chosen: argparse.Namespace) -> None:
    """Calibrate, and write the vectors, the frontier and its picture."""
    need("matplotlib")
    need("sklearn")
    output = chosen.output or chosen.vectors[0]
    if len(chosen.vectors) > 1 and chosen.output is None:
        raise EmokernelError("several files of vectors: say where the best one goes with --output")
    if output.suffix != ".safetensors" or output.is_dir():
        raise EmokernelError(
            f"{output} cannot hold a calibration: give a file FILE.safetensors with --output"
        )
    journal, rows, picture = (
        output.with_name(output.name + ending)
        for ending in (".calibration.partial", ".frontier.jsonl", ".frontier.png")
    )
    for path in (output, journal, rows, picture):
        check_file(path)
    bounds = Bounds(chosen.max_perplexity, chosen.min_distinct, chosen.max_repetition)
    sampling = Sampling(chosen.max_new_tokens) if chosen.max_new_tokens else None
    labels, coordinates = arguments.labels_of(chosen), arguments.coordinates_of(chosen)
    sites = [chosen.site] if chosen.site else None
    texts = _texts(chosen)
    vectors = [EmotionVectors.load(path) for path in chosen.vectors]
    judge = arguments.load_judge(chosen.judge or named(chosen.model).calibrating)
    check_inputs(vectors, judge, labels, sites)
    fitting = dict(zip(chosen.vectors, vectors, strict=True))
    config, tokenizer = models.load_to_write(chosen, fitting)
    prompts = Prompts.of(tokenizer, texts, chosen.prompts)
    wanted = {
        "vectors": [each.digest() for each in vectors],
        "judge": [judge.name, judge.digest()],
        "bounds": vars(bounds),
        "labels": labels,
        "prompts": prompts.pairs,
        "sites": sites,
    }
    check_run(journal, wanted, chosen)
    model = models.load_weights(chosen, config)
    output.parent.mkdir(parents=True, exist_ok=True)
    with arguments.resumable(journal):
        result = calibrate(
            model, tokenizer, vectors, prompts=prompts, judge=judge, bounds=bounds,
            sampling=sampling, sites=sites, laws=[chosen.law] if chosen.law else tuple(LAW),
            doses=[chosen.dose] if chosen.dose else tuple(DOSE), coordinates=coordinates,
            labels=labels, other_model=chosen.other_model, journal=journal,
            restart=chosen.restart, batch_size=chosen.batch_size, effort=chosen.effort,
        )  # fmt: skip
    result.vectors.save(output)
    result.save_rows(rows)
    plot_frontier(picture, result)
    journal.unlink()
    print(result.summary())
    print(f"\nWrote {output}, {rows.name} and {picture.name}")


def _texts(chosen: argparse.Namespace) -> list[str] | None:
    """Those of ``--queries``, the neutral ones if there are any, in a fixed order at random."""
    if not chosen.queries:
        return None
    queries = Queries.read(chosen.queries)
    texts = [query.text for query in queries.neutral or queries]
    random.Random(0).shuffle(texts)
    return texts
