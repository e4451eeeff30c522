"""The command line: `emokernel COMMAND`, one module of `emokernel.commands` for each."""

from __future__ import annotations

import argparse
import importlib
import os
import select
import sys
from collections.abc import Sequence
from typing import TextIO

from emokernel import EmokernelError, __version__

COMMANDS = (
    "info", "extract", "convert", "show", "calibrate", "evaluate", "verify", "bench", "serve",
    "demo",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status. Errors of emokernel's own are one line and status 2.

    Ctrl-C is one line, too, and status 130. Where nobody reads the output any more, as behind
    ``| head``, it ends without a word and with 141, which is what SIGPIPE gives other programs.
    """
    _tolerate_characters()
    try:
        try:
            return _run(arguments)
        finally:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
    except BrokenPipeError:
        if not _reader_left():
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # which Python flushes once more at its end
            if _is_broken(stream):
                os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return 128 + 13


def _run(arguments: Sequence[str] | None) -> int:
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
        if isinstance(error, BrokenPipeError) and _reader_left():
            raise
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


def _reader_left() -> bool:
    """Whether nobody reads what is printed; a broken pipe may be another than that one."""
    return _is_broken(sys.stdout) or _is_broken(sys.stderr)


def _is_broken(stream: TextIO | None) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
    except (AttributeError, OSError, ValueError):  # no such stream, or no poll on this system
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())
