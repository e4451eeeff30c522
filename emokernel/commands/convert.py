"""`emokernel convert`: emotion vectors from one file format to another."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

from emokernel.commands.outputs import check_file, check_folder
from emokernel.commands.vectors_file import add_file, load_file
from emokernel.errors import EmokernelError
from emokernel.vectors.formats import FORMATS, format_by_ending, write


def add(commands: Any) -> None:
    """Add the parser."""
    convert = commands.add_parser(
        "convert", help="emotion vectors from one file format to another",
        description="Formats: docs/formats.md. What the target cannot hold is told.",
    )  # fmt: skip
    add_file(convert, "source")
    convert.add_argument(
        "target", type=Path, help="file; a folder for gguf, json and npy with several emotions"
    )
    convert.add_argument("--to", choices=tuple(FORMATS), help="format of the target (its ending)")
    convert.add_argument(
        "--model-hint", help='gguf: the model type for llama.cpp and repeng ("llama")'
    )
    convert.add_argument("--force", action="store_true", help="replace the target")


def run(chosen: argparse.Namespace) -> None:
    """Convert, and tell what was written and what the target cannot hold."""
    format = chosen.to or format_by_ending(chosen.target)
    if format is None:
        raise EmokernelError(f"{chosen.target} does not say a format by its ending: say it by --to")
    filled = chosen.target.is_dir() and any(chosen.target.iterdir())
    if (chosen.target.is_file() or filled) and not chosen.force:
        raise EmokernelError(f"{chosen.target} exists: name another target, or say --force")
    if chosen.model_hint is not None and format != "gguf":
        raise EmokernelError(f"{format} has no place for a model hint: leave --model-hint out")
    folder = FORMATS[format].file_per_emotion and format_by_ending(chosen.target) != format
    (check_folder if folder else check_file)(chosen.target, "another target")
    vectors = load_file(chosen.source, chosen)
    if not (FORMATS[format].file_per_emotion and len(vectors.names) > 1):  # refused, or a folder
        chosen.target.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write(vectors, chosen.target, format=format, model_hint=chosen.model_hint)
    print(
        f"wrote {chosen.target} ({format}): {len(vectors.names)} emotions, {vectors.num_layers}"
        f" layers, hidden size {vectors.hidden_size}, site {vectors.site}"
    )
    for warning in caught:
        print(f"note: {warning.message}")
