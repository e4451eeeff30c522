"""`emokernel evaluate`: what steering does to a model, by the experiments of both papers."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emokernel.affect.mixes import Mixer
from emokernel.choices import DOSE, LAW, MAPPING
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
from emokernel.commands.outputs import check_folder, check_run
from emokernel.errors import EmokernelError, NoDoseError
from emokernel.extras import need

if TYPE_CHECKING:
    from emokernel.affect import Coordinates
    from emokernel.lab.evaluate.plan import Settings
    from emokernel.vectors import EmotionVectors

_JUDGE, _SECOND, _NONE = "embedded-evaluation", "embedded-calibration", "none"
_TOKENS = 96


def add(commands: Any) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "evaluate", help="the experiments of both papers: consistency, strength, fluency, dose"
    )
    add_model(parser, default=EMBEDDED)
    parser.add_argument("--vectors", type=Path, help="file of vectors (embedded: the model's own)")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("emokernel-evaluation"),
        help="folder of texts and report; the same command goes on there (emokernel-evaluation)",
    )  # fmt: skip
    parser.add_argument("--emotions", nargs="+", metavar="NAME", help="of the vectors (all)")
    parser.add_argument("--law", choices=sorted(LAW), help="of the states (the calibrated one)")
    parser.add_argument("--mapping", choices=MAPPING, help="of the states (the calibrated one)")
    judges = parser.add_argument_group("judges")
    judges.add_argument(
        "--judge", default=_JUDGE,
        help="classifier that reads the texts: a repository id or folder of Hugging Face, or the"
        f" small English one of the package ({_JUDGE}); not the one that chose the strengths",
    )  # fmt: skip
    judges.add_argument(
        "--second-judge", default=_SECOND,
        help=f'another, so that the judge is judged ({_SECOND}); "{_NONE}" for none',
    )  # fmt: skip
    add_labels(judges)
    for judge in ("judge", "second-judge"):
        judges.add_argument(
            f"--{judge}-label", action="append", default=[], metavar="LABEL=NAME",
            help=f"another name for a label of --{judge}, such as LABEL_0=joy",
        )  # fmt: skip
    judges.add_argument(
        "--coordinates", default="russell",
        help="table of the circumplex: russell, glasgow or a JSON file (russell)",
    )  # fmt: skip
    judges.add_argument(
        "--human",
        help="text by humans that the ceiling is measured on: a TSV or JSONL file of texts and"
        " labels, or hub:REPOSITORY (the embedded judges come with their figures)",
    )
    size = parser.add_argument_group("how much")
    size.add_argument("--openings", type=positive, default=50, help="queries a condition (50)")
    size.add_argument("--seeds", type=positive, default=3, help="answers to each (3)")
    for name, unit in (("intensities", "of the states"), ("strengths", "of the emotions")):
        size.add_argument(f"--{name}", type=float, nargs="+", help=unit)
    size.add_argument("--doses", type=float, nargs="*", help="KL in nats per token; or none")
    size.add_argument("--templates", nargs="+", help="of the prompts (all)")
    size.add_argument("--max-new-tokens", type=positive, help="of each text (28 embedded, else 96)")
    size.add_argument("--batch-size", type=positive, default=240, help="texts at once (240)")
    asked = parser.add_argument_group("what is asked")
    asked.add_argument("--questions", type=Path, help="file of your own, one a line: of the states")
    asked.add_argument("--queries", type=Path, help="file of your own, one a line: of the emotions")
    parser.add_argument(
        "--other-model", action="store_true", help="allow vectors that another model's file holds"
    )
    parser.add_argument("--restart", action="store_true", help="begin anew, rename what is there")


def run(chosen: argparse.Namespace) -> None:
    """Evaluate, and write the report."""
    from emokernel.demo.clean import is_presentable
    from emokernel.demo.evaluation import NAME
    from emokernel.demo.model import openings
    from emokernel.lab.evaluate.evaluation import GENERATIONS, check_inputs, evaluate
    from emokernel.lab.evaluate.goals import verdicts
    from emokernel.lab.evaluate.labelled import read_labelled
    from emokernel.lab.evaluate.plan import check_asked
    from emokernel.lab.evaluate.prompting import prompting, read_lines
    from emokernel.lab.report import write_report

    need("jinja2")
    need("matplotlib")
    need("sklearn")
    check_folder(chosen.output)
    embedded = chosen.model == EMBEDDED
    settings, vectors, labels = _settings(chosen), _vectors(chosen), labels_of(chosen)
    judge = load_judge(chosen.judge, chosen.judge_label, "--judge-label")
    second = None
    if chosen.second_judge != _NONE:
        renamed = chosen.second_judge_label
        second = load_judge(chosen.second_judge, renamed, "--second-judge-label")
    human = (chosen.human, *read_labelled(chosen.human)) if chosen.human else None
    coordinates = coordinates_named(chosen.coordinates)
    lists = {
        name: read_lines(path) if path else None
        for name, path in (("questions", chosen.questions), ("queries", chosen.queries))
    }
    check_inputs(vectors, judge, second, labels)
    _check_states(chosen, vectors, coordinates)
    check_can_steer("cpu" if chosen.model == EMBEDDED else chosen.device_map)
    config = load_config(chosen)
    check_fits(vectors, config, chosen.vectors)
    tokenizer = load_tokenizer(chosen)
    asked = prompting(
        tokenizer, embedded=embedded, openings=openings(), coordinates=coordinates, **lists
    )
    check_asked(asked, settings)
    wanted = {"vectors": vectors.digest(), "prompts": asked.describe()}
    check_run(chosen.output / GENERATIONS, wanted, restart=chosen.restart)
    model = load_weights(chosen, config)
    with resumable(chosen.output / GENERATIONS):
        results = evaluate(
            model,
            tokenizer,
            vectors,
            asked,
            chosen.output,
            judge=judge,
            second=second,
            labels_of=labels,
            human=human,
            settings=settings,
            law=chosen.law,
            mapping=chosen.mapping,
            model_facts={
                "name": NAME if embedded else chosen.model,
                "revision": chosen.revision,
                "asked by": asked.kind,
                "parameters": sum(each.numel() for each in model.parameters()),
            },
            other_model=chosen.other_model,
            restart=chosen.restart,
            **{"accept": is_presentable, "notes": _notes(chosen)} if embedded else {},
        )
    written = write_report(chosen.output, results)
    print(verdicts(results.goals))
    names = [path.name for path in written]
    print(f"\nWrote {', '.join(names)} and {GENERATIONS} to {chosen.output}/")


def _notes(chosen: argparse.Namespace) -> list[str]:
    """Of the embedded model; of its judge only beside its own vectors."""
    from emokernel.demo.evaluation import INDEPENDENT, NOTES

    own = chosen.vectors is None and chosen.judge == _JUDGE
    return [*NOTES, INDEPENDENT] if own else list(NOTES)


def _settings(chosen: argparse.Namespace) -> Settings:
    from emokernel.demo.evaluation import SAMPLING
    from emokernel.lab.evaluate.plan import Settings

    tokens = {"max_new_tokens": chosen.max_new_tokens} if chosen.max_new_tokens else {}
    given = {
        name: tuple(getattr(chosen, name))
        for name in ("intensities", "strengths", "doses", "templates")
        if getattr(chosen, name) is not None
    }
    usual = SAMPLING if chosen.model == EMBEDDED else replace(SAMPLING, max_new_tokens=_TOKENS)
    return Settings(
        openings=chosen.openings, seeds=chosen.seeds, sampling=replace(usual, **tokens),
        batch_size=chosen.batch_size, **given,
    )  # fmt: skip


def _check_states(
    chosen: argparse.Namespace, vectors: EmotionVectors, coordinates: Coordinates
) -> None:
    """EmokernelError for a mapping or law by which these vectors have no states."""
    from emokernel.affect import TWELVE_STATES

    known = vectors.calibration
    mapping = chosen.mapping or (known.mapping if known else MAPPING.default)
    law = chosen.law or (known.law if known else LAW.default)
    mixer = Mixer(vectors, known, mapping, coordinates)
    for state in TWELVE_STATES:
        with suppress(NoDoseError):  # which the report tells
            mixer.components(state, 1.0, law, known.dose if known else DOSE.default)


def _vectors(chosen: argparse.Namespace) -> EmotionVectors:
    from emokernel.demo.vectors import load_vectors
    from emokernel.vectors import EmotionVectors

    if chosen.vectors:
        vectors = EmotionVectors.load(chosen.vectors)
    elif chosen.model == EMBEDDED:
        vectors = load_vectors()
    else:
        raise EmokernelError(
            "no vectors to evaluate: give a file with --vectors, such as `emokernel extract` makes"
        )
    return vectors.select(chosen.emotions) if chosen.emotions else vectors
