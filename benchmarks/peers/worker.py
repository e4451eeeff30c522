"""A peer in its own environment: a JSON request a line on stdin, a JSON answer a line on stdout.

    PYTHON worker.py DRIVER

DRIVER is a module of drivers/ with a class Peer, or MODULE:CLASS. A request is {"do": one of
`REQUESTS`, ...its arguments}, or {"do": "quit"}. Answers: {"ok": ...}, {"cannot": why} or
{"error": "Type: text"}. What a peer prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import TextIO

from protocol import Cannot, Driver

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>

# Requests, and the methods of `Driver` that answer them.
REQUESTS = {
    "load": "load",
    "ask": "asked",
    "logits": "logits",
    "decode": "decode",
    "memory": "memory",
}


def serve(make: Callable[[], Driver], requests: Iterable[str], answers: TextIO) -> None:
    """Answers ``requests`` until one says quit; ``make`` is called at once (it imports)."""
    peer, failure = _made(make)
    for line in requests:
        request = json.loads(line)
        do = request.pop("do")
        if do == "quit":
            return
        try:
            if failure:
                raise failure
            if do not in REQUESTS:
                raise ValueError(f"unknown request {do!r}")
            answer = {"ok": getattr(peer, REQUESTS[do])(**request)}
        except Cannot as reason:
            answer = {"cannot": str(reason)}
        except Exception as error:  # a peer may raise anything: the parent has a row to write
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _made(make: Callable[[], Driver]) -> tuple[Driver | None, Exception | None]:
    try:
        return make(), None
    except Exception as error:
        return None, error


def driver(name: str) -> Driver:
    """The peer of a DRIVER."""
    module, _, kind = name.partition(":")
    if kind:
        return getattr(importlib.import_module(module), kind)()
    return importlib.import_module(f"drivers.{module}").Peer()


def end_with_parent() -> None:
    """On Linux the worker is killed when its parent ends, however that ends; in a long answer, too.

    Elsewhere it ends once it reads the end of its requests.
    """
    with contextlib.suppress(AttributeError):  # no Linux
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def main() -> None:
    """Keeps the real stdin and stdout for the protocol; all else that prints has stderr."""
    end_with_parent()
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    serve(lambda: driver(sys.argv[1]), requests, answers)


if __name__ == "__main__":
    main()
