"""`emokernel convert`: emotion vectors from one file format to another."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from emokernel.commands.arguments import add_file, load_file
from emokernel.commands.outputs import check_file, check_folder
from emokernel.errors import EmokernelError
from emokernel.vectors.formats import FORMATS, format_by_ending, write


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Formats: docs/formats.md. What the target cannot hold is told."
    add_file(parser, "source")
    parser.add_argument(
        "target", type=Path, help="file; a folder for gguf, json and npy with several emotions"
    )
    parser.add_argument("--to", choices=tuple(FORMATS), help="format of the target (its ending)")
    parser.add_argument(
        "--model-hint", help='gguf: the model type for llama.cpp and repeng ("llama")'
    )
    parser.add_argument("--force", action="store_true", help="replace the target")


def run(chosen: argparse.Namespace) -> None:
    """Convert, and tell what was written and what the target cannot hold."""
    target, format = chosen.target, chosen.to or format_by_ending(chosen.target)
    if format is None:
        raise EmokernelError(f"{target} does not say a format by its ending: say it by --to")
    filled = target.is_dir() and any(target.iterdir())
    if (target.is_file() or filled) and not chosen.force:
        raise EmokernelError(f"{target} exists: name another target, or say --force")
    if chosen.model_hint is not None and format != "gguf":
        raise EmokernelError(f"{format} has no place for a model hint: leave --model-hint out")
    folder = FORMATS[format].file_per_emotion and format_by_ending(target) != format
    (check_folder if folder else check_file)(target, "another target")
    vectors = load_file(chosen.source, chosen)
    if not (FORMATS[format].file_per_emotion and len(vectors.names) > 1):  # refused, or a folder
        target.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write(vectors, target, format=format, model_hint=chosen.model_hint)
    print(
        f"wrote {target} ({format}): {len(vectors.names)} emotions, {vectors.num_layers}"
        f" layers, hidden size {vectors.hidden_size}, site {vectors.site}"
    )
    for warning in caught:
        print(f"note: {warning.message}")
