"""The parent's side of `worker.py`: starts a peer in its own environment and asks it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")


class Refused(Exception):
    """The peer cannot do that: an empty cell."""


class Failed(Exception):
    """The peer tried, and raised; it can be asked on."""


class Died(Failed):
    """The worker is gone, or answered in no time given; every later request says so again."""


class Worker:
    """A peer in a process of its own.

    ``driver``: a DRIVER of `worker.py`. ``environment``: what
    its environment variables are besides ours. ``patience``: seconds that an answer may take.
    """

    def __init__(
        self,
        name: str,
        python: str | Path,
        driver: str,
        *,
        environment: Mapping[str, str] | None = None,
        patience: float = 600,
    ) -> None:
        self.name, self._patience = name, patience
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        self._process = subprocess.Popen(
            [str(python), str(WORKER), driver],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the parent
            env={**os.environ, **(environment or {})},
        )
        self._unread = b""
        self._died: str | None = None

    def __call__(self, do: str, **arguments: Any) -> Any:
        """The answer to a request of `worker.REQUESTS`; Refused, Failed or Died."""
        if self._died:
            raise Died(self._died)
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        except OSError:
            raise self._gone() from None
        answer = json.loads(self._line())
        if "cannot" in answer:
            raise Refused(answer["cannot"])
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        """Says quit, and ends what does not."""
        if self._process.poll() is None and not self._died:
            try:
                self._process.stdin.write(b'{"do": "quit"}\n')
                self._process.wait(10)
            except (OSError, subprocess.TimeoutExpired):
                self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()

    def _line(self) -> bytes:
        end = time.monotonic() + self._patience
        while b"\n" not in self._unread:
            left = max(0.0, end - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                self._process.kill()
                raise self._gone(f"no answer in {self._patience:.0f} s")
            read = os.read(self._process.stdout.fileno(), 1 << 16)
            if not read:
                raise self._gone()
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _gone(self, reason: str | None = None) -> Died:
        status = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1].strip()}" if lines and reason is None else ""
        self._died = f"died ({reason or f'exit status {status}'}{said})"
        return Died(self._died)
