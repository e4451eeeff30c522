"""`emokernel verify`: the proof on your own model and machine, as a verdict to paste."""

from __future__ import annotations

import argparse
from typing import Any

from emokernel.commands.arguments import add_model
from emokernel.commands.bench_model import add_vectors, given_vectors, load_checked, vectors_of


def add(commands: Any) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "verify", help="prove on your model and machine what emokernel promises"
    )
    add_model(parser)
    add_vectors(parser)
    parser.add_argument(
        "--skip", action="append", default=[], metavar="CHECK",
        help="leave a check out; the verdict lists it",
    )  # fmt: skip


def run(chosen: argparse.Namespace) -> int:
    """Run the checks and print the verdict; 0 if all holds, 1 if something does not."""
    from tqdm import tqdm

    from emokernel.bench.compiling import check_backend
    from emokernel.errors import ModelStructureError
    from emokernel.verify import Finding, Subject, holds, verdict, verify
    from emokernel.verify.verification import STRUCTURE, check_names

    check_backend(chosen.compile_backend)
    check_names(chosen.skip)
    given = given_vectors(chosen)
    model, tokenizer = load_checked(chosen)
    about = [f"model {chosen.model}{_revision(chosen)}: {_description(model)}"]
    try:
        vectors, origin = vectors_of(chosen, given, model)
        subject = Subject(model, tokenizer, vectors, compile_backend=chosen.compile_backend)
    except ModelStructureError as error:
        findings = [Finding(STRUCTURE, False, str(error))]
    else:
        about.append(f"vectors: {origin}, {len(vectors.names)} emotions")
        if subject.random_prompts:
            about.append("prompts: random tokens, no tokenizer knows the words")
        about += _report(subject)
        findings = verify(subject, chosen.skip, lambda names: tqdm(names, leave=False))
    print(verdict(about, findings))
    return int(not holds(findings))


def _revision(chosen: argparse.Namespace) -> str:
    return f" ({chosen.revision})" if chosen.revision else ""


def _description(model: Any) -> str:
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{type(model).__name__}, {count:,} parameters, {model.dtype}, {model.device}"


def _report(subject: Any) -> list[str]:
    from emokernel.errors import EmokernelError

    try:
        with subject.patched() as steering:
            return str(steering.report()).splitlines()
    except EmokernelError:  # the structure check says it
        return []
