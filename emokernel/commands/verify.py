"""`emokernel verify`: prove on your model and machine what emokernel promises."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from tqdm import tqdm

from emokernel.bench.compiling import check_backend
from emokernel.commands import models
from emokernel.commands.arguments import add_measured
from emokernel.errors import EmokernelError, ModelStructureError
from emokernel.verify import Finding, Subject, holds, verdict, verify
from emokernel.verify.verification import STRUCTURE, check_names


def add(parser: argparse.ArgumentParser) -> None:
    add_measured(parser)
    parser.add_argument(
        "--skip", action="append", default=[], metavar="CHECK",
        help="leave a check out; the verdict lists it",
    )  # fmt: skip


def run(chosen: argparse.Namespace) -> int:
    """Run the checks and print the verdict; 0 if all holds, 1 if something does not."""
    check_backend(chosen.compile_backend)
    check_names(chosen.skip)
    given = models.given_vectors(chosen)
    model, tokenizer = models.load_to_measure(chosen)
    revision = f" ({chosen.revision})" if chosen.revision else ""
    count = sum(parameter.numel() for parameter in model.parameters())
    kind = f"{type(model).__name__}, {count:,} parameters, {model.dtype}, {model.device}"
    about = [f"model {chosen.model}{revision}: {kind}"]
    try:
        vectors, origin = models.vectors_of(chosen, given, model)
        subject = Subject(model, tokenizer, vectors, compile_backend=chosen.compile_backend)
    except ModelStructureError as error:
        findings = [Finding(STRUCTURE, False, str(error))]
    else:
        about.append(f"vectors: {origin}, {len(vectors.names)} emotions")
        if subject.random_prompts:
            about.append("prompts: random tokens, no tokenizer knows the words")
        about += _report(subject)
        findings = verify(subject, chosen.skip, _named)
    print(verdict(about, findings))
    return int(not holds(findings))


def _named(checks: Iterable[str]) -> Iterator[str]:
    """The checks with a bar that names the one that runs."""
    names = list(checks)
    with tqdm(total=len(names), leave=False) as bar:
        for check in names:
            slow = " (a minute or two)" if check == "compile" else ""
            bar.set_description(f"{check}{slow}")
            yield check
            bar.update()


def _report(subject: Subject) -> list[str]:
    try:
        with subject.patched() as steering:
            return str(steering.report()).splitlines()
    except EmokernelError:  # the structure check says it
        return []
