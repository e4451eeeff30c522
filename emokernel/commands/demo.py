"""`emokernel demo`: a model speaks with emotion, and a judge listens."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedModel

from emokernel.affect import Coordinates
from emokernel.atomic import write_text
from emokernel.bench import machine, pictures
from emokernel.bench.benchmark import BenchOptions, bench
from emokernel.bench.cases import Case
from emokernel.bench.variants import with_baselines
from emokernel.commands import arguments, models
from emokernel.commands.columns import one_line, side_by_side
from emokernel.commands.evaluate import model_facts
from emokernel.commands.outputs import check_folder
from emokernel.commands.show import table
from emokernel.demo.model import openings
from emokernel.demo.named import EMBEDDED, SHOWN, Demo, named
from emokernel.demo.showing import page
from emokernel.demo.showing.batch import around, dosed, speak
from emokernel.demo.showing.graded import graded
from emokernel.errors import EmokernelError, FetchError
from emokernel.extras import need
from emokernel.lab.evaluate.evaluation import GENERATIONS, evaluate
from emokernel.lab.evaluate.prompting import prompting
from emokernel.lab.measure.fingerprint import check_made_from
from emokernel.lab.report import tables, write_report
from emokernel.lab.report.parts import Table
from emokernel.lab.report.view import View
from emokernel.steering import patch
from emokernel.vectors import EmotionVectors

LATENCY, LATENCY_PLOT = "latency.json", "latency.png"
_WIDTH, _LONGEST = 100, 46  # of what is printed, at most, and of a cell of it


def add(parser: argparse.ArgumentParser) -> None:
    arguments.add_model(parser, optional=True, usual=SHOWN)
    parser.add_argument("--model", dest="named", metavar="MODEL", help="the same as MODEL")
    arguments.add_vectors(parser)
    parser.add_argument("--other-model", action="store_true", help="allow another model's vectors")
    parser.add_argument(
        "--output", type=Path, default=Path("emokernel-demo"), help="folder (emokernel-demo)"
    )
    parser.add_argument(
        "--seeds", type=arguments.positive, default=3, help="answers to each question (3)"
    )


def run(chosen: argparse.Namespace) -> None:
    """Run the demo of a model, by its plan."""
    if chosen.named is not None:
        if chosen.model not in (SHOWN, chosen.named):
            raise EmokernelError(f"is it {chosen.model} or {chosen.named}? Give one MODEL")
        chosen.model = chosen.named
    plan = named(chosen.model).demo
    try:
        demo(chosen, replace(plan, settings=replace(plan.settings, seeds=chosen.seeds)))
    except FetchError as error:
        raise FetchError(
            f"{error}; `emokernel demo {EMBEDDED}` needs nothing that is fetched"
        ) from error


def demo(chosen: argparse.Namespace, plan: Demo) -> None:
    """Show and print what ``plan`` says; files go into the folder ``chosen.output``."""
    for package in ("jinja2", "matplotlib", "sklearn"):
        need(package)
    output, own = chosen.output, named(chosen.model)
    check_folder(output)
    vectors = models.needed_vectors(chosen, "speak with")
    config, tokenizer = models.load_to_write(chosen, {chosen.vectors: vectors})
    model = models.load_weights(chosen, config)
    check_made_from(vectors, model, chosen.other_model)
    coordinates = Coordinates.named("russell")
    asked = prompting(
        tokenizer, embedded=own.prefixes, openings=openings(), coordinates=coordinates
    )
    steering = patch(model, vectors, coordinates=coordinates)
    batch = speak(
        model, tokenizer, steering, asked, plan.question_of(asked),
        around(dosed(steering), coordinates, plan.emotions), plan.strength,
        sampling=plan.settings.sampling, accept=own.accept,
    )  # fmt: skip
    steering.unpatch()
    terminal = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    width = min(_WIDTH, terminal or _WIDTH)
    print(f"\n{batch.question}\n", *side_by_side(batch.texts, terminal), sep="\n")
    print(*textwrap.wrap(batch.about, width), "", sep="\n", flush=True)
    judge, second = (arguments.load_judge(name) for name in (own.judge, own.second_judge))
    results = evaluate(
        model, tokenizer, vectors, asked, output, judge=judge, second=second,
        settings=plan.settings, model_facts=model_facts(chosen, asked, model), accept=own.accept,
        notes=[*own.notes, *(own.own_notes if chosen.vectors is None else ())],
        other_model=chosen.other_model, restart=True,
    )  # fmt: skip
    # What is shown is what was measured, without a verdict on it.
    view = View(replace(results, goals=()))
    rising = graded(view, output / GENERATIONS)
    _print(page.filled(page.disc(view)), width)
    print(*textwrap.wrap(page.mean_cosine(view), width), sep="\n")
    _print_texts(page.strengths(rising, view.judge), width)
    for each in (tables.emotions(view), tables.costs(view)):
        _print(page.filled(each), width)
    times = _timed(model, vectors, plan.rounds, output)
    _print(times, width)
    written = write_report(
        output, view.results, page.title(view), page.sections(view, batch, rising, times)
    )
    names = [*(path.name for path in written), GENERATIONS, LATENCY, LATENCY_PLOT]
    print(f"\nWrote {', '.join(names)} to {output}/")


def _timed(model: PreTrainedModel, vectors: EmotionVectors, rounds: int, output: Path) -> Table:
    """Time per token, kept in ``output`` as figures and a picture too."""
    ways = tuple(with_baselines(["plain_hook", "emokernel"]))
    (timed,) = bench(model, vectors, [Case()], BenchOptions(ways, 9, rounds, slots=1))
    of_machine = machine()
    where = of_machine["gpu"] if model.device.type == "cuda" else of_machine["cpu"]
    medians = {row["variant"]: row["token_ms"] for row in timed.rows if "noise" not in row}
    facts = {"milliseconds": medians, "machine": of_machine}
    write_text(output / LATENCY, json.dumps(facts, indent=1) + "\n")
    pictures.latency(output / LATENCY_PLOT, timed.rows, f"Time per token on {where}")
    return page.times(timed.rows, where)


def _print(part: Table, width: int) -> None:
    corner, *heads = part.columns
    rows = {name: cells for name, *cells in part.rows}
    title = textwrap.fill(part.caption, width)
    print(*table(title, corner, heads, rows, _LONGEST, width), sep="\n", flush=True)


def _print_texts(part: Table, width: int) -> None:
    """Each row with its text, the last cell, below it."""
    print(f"\n{textwrap.fill(part.caption, width)}")
    indented = textwrap.TextWrapper(width, initial_indent="  ", subsequent_indent="  ")
    for *cells, text in part.rows:
        print(", ".join(f"{n.lower()} {c}" for n, c in zip(part.columns, cells, strict=False)))
        print(indented.fill(one_line(text)), flush=True)
