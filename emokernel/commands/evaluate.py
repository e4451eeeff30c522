"""`emokernel evaluate`: the experiments of both papers: consistency, strength, fluency, dose."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from emokernel.affect import TWELVE_STATES, Coordinates
from emokernel.affect.mixes import Mixer
from emokernel.choices import DOSE, LAW, MAPPING
from emokernel.commands import arguments, models
from emokernel.commands.arguments import positive
from emokernel.commands.outputs import check_folder, check_run
from emokernel.demo.model import openings
from emokernel.demo.named import EMBEDDED, SMOLLM2, NamedModel, named
from emokernel.errors import NoDoseError
from emokernel.extras import need
from emokernel.lab.evaluate.evaluation import GENERATIONS, check_inputs, evaluate
from emokernel.lab.evaluate.goals import verdicts
from emokernel.lab.evaluate.labelled import read_labelled
from emokernel.lab.evaluate.plan import check_asked
from emokernel.lab.evaluate.prompting import Prompting, prompting, read_lines
from emokernel.lab.evaluate.results import Results
from emokernel.lab.evaluate.settings import LAPTOP, WHOLE, Settings
from emokernel.lab.measure.sentences import ENCODER, SentenceEncoder
from emokernel.lab.report import write_report
from emokernel.vectors import EmotionVectors
from emokernel.weights import identity

_USUAL, _NONE = NamedModel(), "none"
_SIZES = (
    "openings", "seeds", "intensities", "prompted", "strengths", "doses", "compared", "templates",
    "joined",
)  # fmt: skip


def _usual(what: str, name: str) -> str:
    """The help of an option, with what holds unless it is given."""

    def said(settings: Settings) -> str:
        value = getattr(settings, name)
        if isinstance(value, tuple):
            return " ".join(each if isinstance(each, str) else f"{each:g}" for each in value)
        return "all" if value is None else str(value)

    whole, laptop = said(WHOLE), said(LAPTOP)
    return f"{what} ({whole})" if whole == laptop else f"{what} ({laptop}; embedded: {whole})"


def add(parser: argparse.ArgumentParser) -> None:
    arguments.add_model(parser, optional=True)
    arguments.add_vectors(parser)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("emokernel-evaluation"),
        help="folder of texts and report; the same command goes on there (emokernel-evaluation)",
    )  # fmt: skip
    parser.add_argument("--emotions", nargs="+", metavar="NAME", help="of the vectors (all)")
    parser.add_argument("--law", choices=sorted(LAW), help="of the states (the calibrated one)")
    parser.add_argument("--mapping", choices=MAPPING, help="of the states (the calibrated one)")
    judges = parser.add_argument_group("judges")
    arguments.add_judging(judges, _USUAL.judge, "; not the one that chose the strengths")
    judges.add_argument(
        "--second-judge",
        help=f'another, so that the judge is judged ({_USUAL.second_judge}); "{_NONE}" for none',
    )  # fmt: skip
    for judge in ("judge", "second-judge"):
        judges.add_argument(
            f"--{judge}-label", action="append", default=[], metavar="LABEL=NAME",
            help=f"another name for a label of --{judge}, such as LABEL_0=joy",
        )  # fmt: skip
    judges.add_argument(
        "--sentences", choices=(ENCODER, _NONE),
        help=f"the sentence encoder {ENCODER}, fetched once, says besides how far answers keep to"
        f" the topic ({SMOLLM2}: {ENCODER}, else none)",
    )  # fmt: skip
    judges.add_argument(
        "--human",
        help="text by humans that the ceiling is measured on: a TSV, JSONL or JSON file of texts"
        " and labels, or hub:REPOSITORY (the judges of the package bring their figures)",
    )
    size = parser.add_argument_group("how much, and of what")
    size.add_argument("--openings", type=positive, help=_usual("queries a condition", "openings"))
    size.add_argument("--seeds", type=positive, help=_usual("answers to each", "seeds"))
    for name, what in (
        ("intensities", "of the states"), ("prompted", "those that prompts are given too"),
        ("strengths", "of the emotions"),
    ):  # fmt: skip
        size.add_argument(f"--{name}", type=float, nargs="+", help=_usual(what, name))
    doses = _usual("KL in nats per token, or none", "doses")
    size.add_argument("--doses", type=float, nargs="*", help=doses)
    compared = _usual("how many emotions are asked for at the doses, by both laws", "compared")
    size.add_argument("--compared", type=int, help=compared)
    size.add_argument("--templates", nargs="+", help=_usual("of the prompts", "templates"))
    joined = _usual("templates that are given together with vectors too", "joined")
    size.add_argument("--joined", nargs="*", metavar="TEMPLATE", help=joined)
    for name, what in (("questions", "of the states"), ("queries", "of the emotions")):
        size.add_argument(f"--{name}", type=Path, help=f"file of your own, one a line: {what}")
    tokens = [named(model).evaluation.sampling.max_new_tokens for model in (EMBEDDED, "")]
    arguments.add_writing(size, "{} embedded, else {}".format(*tokens))


def run(chosen: argparse.Namespace) -> None:
    """Evaluate, and write the report."""
    with arguments.resumable(chosen.output / GENERATIONS):
        results, written = _evaluated(chosen)
    print(verdicts(results.goals))
    print(f"\nWrote {', '.join(written)} and {GENERATIONS} to {chosen.output}/")


def _evaluated(chosen: argparse.Namespace) -> tuple[Results, list[str]]:
    """The results, and the names of the files of the report."""
    need("jinja2")
    need("matplotlib")
    need("sklearn")
    check_folder(chosen.output)
    own = named(chosen.model)
    settings, vectors = settings_of(chosen), _vectors(chosen)
    labels = arguments.labels_of(chosen)
    judge = arguments.load_judge(chosen.judge or own.judge, chosen.judge_label, "--judge-label")
    second, name = None, chosen.second_judge or own.second_judge
    if name != _NONE:
        second = arguments.load_judge(name, chosen.second_judge_label, "--second-judge-label")
    human = (chosen.human, *read_labelled(chosen.human)) if chosen.human else None
    coordinates = arguments.coordinates_of(chosen)
    lists = {
        name: read_lines(path) if path else None
        for name, path in (("questions", chosen.questions), ("queries", chosen.queries))
    }
    check_inputs(vectors, judge, second, labels)
    _check_states(chosen, vectors, coordinates)
    config, tokenizer = models.load_to_write(chosen, {chosen.vectors: vectors})
    asked = prompting(
        tokenizer, embedded=own.prefixes, openings=openings(), coordinates=coordinates, **lists
    )
    check_asked(asked, settings)
    wanted = {"vectors": vectors.digest(), "prompts": asked.describe()}
    check_run(chosen.output / GENERATIONS, wanted, chosen)
    encoder = chosen.sentences or own.sentences or _NONE
    sentences = None if encoder == _NONE else SentenceEncoder.fetched(encoder)
    model = models.load_weights(chosen, config)
    results = evaluate(
        model, tokenizer, vectors, asked, chosen.output, judge=judge, second=second,
        labels_of=labels, human=human, settings=settings, law=chosen.law, mapping=chosen.mapping,
        sentences=sentences, model_facts=model_facts(chosen, asked, model),
        other_model=chosen.other_model, restart=chosen.restart, accept=own.accept,
        notes=_notes(chosen),
    )  # fmt: skip
    return results, [path.name for path in write_report(chosen.output, results)]


def model_facts(chosen: argparse.Namespace, asked: Prompting, model: Any) -> dict[str, Any]:
    """What a report says of the MODEL."""
    return {
        "name": named(chosen.model).title or identity(chosen.model), "revision": chosen.revision,
        "asked by": asked.kind, "parameters": sum(each.numel() for each in model.parameters()),
    }  # fmt: skip


def _notes(chosen: argparse.Namespace) -> list[str]:
    """Of the model; of its judge only beside its own vectors."""
    own = named(chosen.model)
    with_own = chosen.vectors is None and chosen.judge in (None, own.judge)
    return [*own.notes, *(own.own_notes if with_own else ())]


def settings_of(chosen: argparse.Namespace) -> Settings:
    """What a model is evaluated with unless told otherwise, and what was told."""
    usual = named(chosen.model).evaluation
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name in _SIZES
        if (value := getattr(chosen, name)) is not None
    }
    if "intensities" in given and usual.prompted is not None:
        both = tuple(each for each in usual.prompted if each in given["intensities"])
        given.setdefault("prompted", both)
    if "templates" in given and usual.joined is not None:
        both = tuple(each for each in usual.joined if each in given["templates"])
        given.setdefault("joined", both)
    longest = chosen.max_new_tokens or usual.sampling.max_new_tokens
    sampling = replace(usual.sampling, max_new_tokens=longest)
    return replace(usual, batch_size=chosen.batch_size, sampling=sampling, **given)


def _check_states(
    chosen: argparse.Namespace, vectors: EmotionVectors, coordinates: Coordinates
) -> None:
    """EmokernelError for a mapping or law by which these vectors have no states."""
    known = vectors.calibration
    mapping = chosen.mapping or (known.mapping if known else MAPPING.default)
    law = chosen.law or (known.law if known else LAW.default)
    mixer = Mixer(vectors, known, mapping, coordinates)
    for state in TWELVE_STATES:
        with suppress(NoDoseError):  # which the report tells
            mixer.components(state, 1.0, law, known.dose if known else DOSE.default)


def _vectors(chosen: argparse.Namespace) -> EmotionVectors:
    vectors = models.needed_vectors(chosen, "evaluate")
    return vectors.select(chosen.emotions) if chosen.emotions else vectors
