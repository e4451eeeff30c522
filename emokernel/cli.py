"""The command line: `emokernel info` and `emokernel demo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from emokernel import EmokernelError, __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors of emokernel's own are one line and exit status 2."""
    parser = argparse.ArgumentParser(
        prog="emokernel", description="Emotion steering inside the kernels of a language model."
    )
    parser.add_argument("--version", action="version", version=f"emokernel {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="which backend is live here, and why the others are not")
    demo = commands.add_parser("demo", help="a small model speaks with emotion, a judge listens")
    demo.add_argument(
        "--output", type=Path, default=Path("emokernel-demo"), help="folder (emokernel-demo)"
    )
    demo.add_argument("--seeds", type=int, default=3, help="samples of each opening (3)")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "info":
            _info()
        else:
            if chosen.seeds < 1:
                parser.error("--seeds must be at least 1")
            from emokernel.demo.command import demo as run_demo

            run_demo(chosen.output, chosen.seeds)
    except (EmokernelError, OSError) as error:
        print(f"emokernel: {error}", file=sys.stderr)
        return 2
    return 0


def _info() -> None:
    import importlib

    import torch

    from emokernel.errors import BackendError
    from emokernel.ops import BACKENDS, available, select

    print(f"emokernel {__version__}, torch {torch.__version__}")
    for device in ["cpu"] + (["cuda"] if torch.cuda.is_available() else []):
        try:
            live = select(device).name
        except BackendError:
            live = None
        for name, reason in available(device).items():
            state = "live" if name == live else "available" if reason is None else reason
            print(f"  {device}: backend {name:<10} {state}")
    for name in BACKENDS[:-1]:
        for key, value in importlib.import_module(f"emokernel.ops.{name}").describe().items():
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"  {name} backend, {key.replace('_', ' ')}: {shown}")


if __name__ == "__main__":
    sys.exit(main())
