"""`emokernel demo`: a small model speaks with emotion, a judge listens."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from emokernel.commands.arguments import positive
from emokernel.commands.models import check_can_steer
from emokernel.commands.outputs import check_folder


def add(commands: Any) -> None:
    """Add the parser."""
    demo = commands.add_parser("demo", help="a small model speaks with emotion, a judge listens")
    demo.add_argument(
        "--output", type=Path, default=Path("emokernel-demo"), help="folder (emokernel-demo)"
    )
    demo.add_argument("--seeds", type=positive, default=3, help="samples of each opening (3)")


def run(chosen: argparse.Namespace) -> None:
    """Run the demo."""
    check_folder(chosen.output)
    check_can_steer("cpu")
    from emokernel.demo.command import demo

    demo(chosen.output, chosen.seeds)
