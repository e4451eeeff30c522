"""The command line: `emokernel COMMAND`, one module of `emokernel.commands` for each."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from emokernel import EmokernelError, __version__

COMMANDS = (
    "info", "extract", "convert", "show", "calibrate", "evaluate", "verify", "bench", "serve",
    "demo",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status. Errors of emokernel's own are one line and status 2.

    Ctrl-C is one line, too, and status 130.
    """
    _tolerate_characters()
    parser = argparse.ArgumentParser(
        prog="emokernel", description="Emotion steering inside the kernels of a language model."
    )
    parser.add_argument("--version", action="version", version=f"emokernel {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    modules = {name: importlib.import_module(f"emokernel.commands.{name}") for name in COMMANDS}
    for module in modules.values():
        module.add(commands)
    chosen, chosen.passed_on = parser.parse_known_args(arguments)
    if chosen.passed_on and not getattr(modules[chosen.command], "PASSES_ON", False):
        parser.error(f"unrecognized arguments: {' '.join(chosen.passed_on)}")
    try:
        status = modules[chosen.command].run(chosen)
    except (EmokernelError, OSError) as error:
        print(f"emokernel: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return status or 0


def _tolerate_characters() -> None:
    """What a terminal's encoding lacks is printed as an escape, not an error after a long run."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
