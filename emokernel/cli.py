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

COMMANDS = {
    "info": "which backend is live here, and why the others are not",
    "extract": "make emotion vectors of a model",
    "convert": "emotion vectors from one file format to another",
    "show": "what a file of emotion vectors holds",
    "calibrate": "find site, layers and strengths of vectors, so that 1.0 means the same for all",
    "evaluate": "the experiments of both papers: consistency, strength, fluency, dose",
    "verify": "prove on your model and machine what emokernel promises",
    "bench": "what steering costs on your model and machine, against hooks and nothing",
    "serve": "serve a model over HTTP, with an emotion for each request",
    "demo": "a small model speaks with emotion, a judge listens",
}


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
    given = sys.argv[1:] if arguments is None else list(arguments)
    asked = next((word for word in given if word in COMMANDS), None)
    modules = {}
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about)
        if name == asked:  # what another imports takes seconds
            modules[name] = importlib.import_module(f"emokernel.commands.{name}")
            modules[name].add(command)
    chosen, chosen.passed_on = parser.parse_known_args(given)
    chosen.own_process = arguments is None  # which is there for this command alone
    module = modules[chosen.command]
    if chosen.passed_on and not getattr(module, "PASSES_ON", False):
        parser.error(f"unrecognized arguments: {' '.join(chosen.passed_on)}")
    try:
        status = module.run(chosen)
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
