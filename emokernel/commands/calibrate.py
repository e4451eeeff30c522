"""`emokernel calibrate`: what strength 1.0 of a file of emotion vectors is to mean."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

from emokernel.choices import DOSE, LAW, SITE
from emokernel.commands.arguments import (
    add_labels,
    add_model,
    coordinates_named,
    labels_of,
    load_judge,
    positive,
    resumable,
)
from emokernel.commands.models import (
    EMBEDDED,
    check_can_steer,
    check_fits,
    load_config,
    load_tokenizer,
    load_weights,
)
from emokernel.commands.outputs import check_file, check_run
from emokernel.errors import EmokernelError
from emokernel.extras import need


def add(commands: Any) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "calibrate",
        help="find site, layers and strengths of vectors, so that 1.0 means the same for all",
    )
    add_model(parser)
    parser.add_argument(
        "--vectors", type=Path, nargs="+", required=True,
        help="file of vectors; of several, the best is calibrated",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, help="file for the calibrated vectors (the one of --vectors)"
    )
    parser.add_argument(
        "--judge", default="embedded-calibration",
        help="classifier that reads the texts: a repository id or folder of Hugging Face, or the"
        " small English one of the package (embedded-calibration)",
    )  # fmt: skip
    add_labels(parser)
    parser.add_argument(
        "--max-perplexity", type=float, default=1.5,
        help="bound: perplexity under the unsteered model, times that of unsteered text (1.5)",
    )  # fmt: skip
    parser.add_argument(
        "--min-distinct", type=float, default=0.9,
        help="bound: distinct 3-grams, times those of unsteered text (0.9)",
    )  # fmt: skip
    parser.add_argument(
        "--site",
        choices=SITE,
        help="try this site only (both; of several files, each its own)",
    )
    parser.add_argument("--law", choices=LAW, help="try this law only (both)")
    parser.add_argument("--dose", choices=DOSE, help="try this dose only (both)")
    parser.add_argument(
        "--coordinates", default="russell",
        help="table of the circumplex: russell, glasgow or a JSON file (russell)",
    )  # fmt: skip
    parser.add_argument("--prompts", type=positive, default=40, help="how many (40)")
    parser.add_argument(
        "--queries",
        type=Path,
        help="file of your own queries, of which the neutral ones are used if there are any",
    )
    parser.add_argument("--max-new-tokens", type=positive, help="of each text (28, in a chat 64)")
    parser.add_argument("--batch-size", type=positive, default=240, help="texts at once (240)")
    parser.add_argument("--restart", action="store_true", help="rename an interrupted run")
    parser.add_argument(
        "--other-model", action="store_true", help="allow vectors that another model's file holds"
    )


def run(chosen: argparse.Namespace) -> None:
    """Calibrate, and write the vectors, the frontier and its picture."""
    from emokernel.lab.calibrate import Bounds, Prompts, calibrate, check_inputs
    from emokernel.lab.measure.sampling import Sampling
    from emokernel.lab.report.frontier_plot import plot_frontier
    from emokernel.vectors import EmotionVectors

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
    bounds = Bounds(chosen.max_perplexity, chosen.min_distinct)
    sampling = Sampling(chosen.max_new_tokens) if chosen.max_new_tokens else None
    labels, coordinates = labels_of(chosen), coordinates_named(chosen.coordinates)
    sites = [chosen.site] if chosen.site else None
    texts = _texts(chosen)
    vectors = [EmotionVectors.load(path) for path in chosen.vectors]
    judge = load_judge(chosen.judge)
    check_inputs(vectors, judge, labels, sites)
    check_can_steer("cpu" if chosen.model == EMBEDDED else chosen.device_map)
    config = load_config(chosen)
    for path, each in zip(chosen.vectors, vectors, strict=True):
        check_fits(each, config, path)
    tokenizer = load_tokenizer(chosen)
    prompts = Prompts.of(tokenizer, texts, chosen.prompts)
    wanted = {
        "vectors": [each.digest() for each in vectors],
        "judge": [judge.name, judge.digest()],
        "bounds": vars(bounds),
        "labels": labels,
        "prompts": prompts.pairs,
        "sites": sites,
    }
    check_run(journal, wanted, restart=chosen.restart)
    model = load_weights(chosen, config)
    output.parent.mkdir(parents=True, exist_ok=True)
    with resumable(journal):
        result = calibrate(
            model,
            tokenizer,
            vectors,
            prompts=prompts,
            judge=judge,
            bounds=bounds,
            sampling=sampling,
            sites=sites,
            laws=[chosen.law] if chosen.law else tuple(LAW),
            doses=[chosen.dose] if chosen.dose else tuple(DOSE),
            coordinates=coordinates,
            labels=labels,
            other_model=chosen.other_model,
            journal=journal,
            restart=chosen.restart,
            batch_size=chosen.batch_size,
        )
    result.vectors.save(output)
    result.save_rows(rows)
    plot_frontier(picture, result)
    journal.unlink()
    print(result.summary())
    print(f"\nWrote {output}, {rows.name} and {picture.name}")


def _texts(chosen: argparse.Namespace) -> list[str] | None:
    """Those of ``--queries``, the neutral ones if there are any, in a fixed order at random."""
    from emokernel.lab.extract.queries import Queries

    if not chosen.queries:
        return None
    queries = Queries.read(chosen.queries)
    texts = [query.text for query in queries.neutral or queries]
    random.Random(0).shuffle(texts)
    return texts
