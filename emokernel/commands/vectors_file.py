"""What the commands take that read a file of emotion vectors."""

from __future__ import annotations

import argparse

from emokernel.choices import SITE
from emokernel.commands.arguments import positive
from emokernel.vectors import EmotionVectors
from emokernel.vectors.formats import FORMATS


def add_file(parser: argparse.ArgumentParser, name: str) -> None:
    """The file and what it may not say itself."""
    parser.add_argument(name, help="a file, or a folder with a file for each emotion")
    parser.add_argument("--from", dest="format", choices=tuple(FORMATS), help="its format (found)")
    parser.add_argument("--names", nargs="+", help="the emotions, where the file does not say them")
    parser.add_argument("--site", choices=SITE, help="where they belong, if the file does not say")
    parser.add_argument(
        "--layer", type=int, help="that of a file with one vector of one layer (from 0)"
    )
    parser.add_argument(
        "--num-layers", type=positive, help="layers of the model, if the file does not say"
    )
    parser.add_argument(
        "--prefix", default="", help="what the names of all files begin with, and no emotion"
    )


def load_file(path: str, chosen: argparse.Namespace) -> EmotionVectors:
    """The vectors of `add_file`'s arguments."""
    return EmotionVectors.load(
        path, format=chosen.format, names=chosen.names, site=chosen.site,
        layer=chosen.layer, num_layers=chosen.num_layers, prefix=chosen.prefix,
    )  # fmt: skip
