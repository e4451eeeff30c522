"""A crowd of clients at a running server: locust in a process of its own, and what it saw."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server_process import ServerProcess

_HERE = Path(__file__).parent
_PERCENTILES = (50, 90, 99)


@dataclass
class Crowd:
    """What the clients saw, as `locustfile.py` tells it."""

    told: dict[str, Any]

    @property
    def failures(self) -> list[str]:
        """What should not have been: the first of it."""
        return self.told["wrong"]

    def server_errors(self) -> int:
        """Answers with a status of 500 or more, to whatever body."""
        statuses = self.told["statuses"].items()
        return sum(count for status, count in statuses if int(status.split()[-1]) >= 500)

    def row(self) -> dict[str, Any]:
        """Counts, and percentiles of the times in milliseconds."""
        kept = {
            name: value for name, value in self.told.items() if name not in ("seconds", "wrong")
        }
        for name, seconds in self.told["seconds"].items():
            kept[f"{name}_ms"] = {
                f"p{part}": round(1e3 * percentile(seconds, part), 2) for part in _PERCENTILES
            } | {"count": len(seconds)}
        return kept


def percentile(values: list[float], part: float) -> float:
    """The smallest that ``part`` percent do not exceed; nan of none."""
    if not values:
        return float("nan")
    return sorted(values)[max(0, math.ceil(len(values) * part / 100) - 1)]


def crowd(
    server: ServerProcess, *, clients: int, seconds: int, tokens: int, show: bool = False
) -> Crowd:
    """``clients`` at a time ask for ``seconds``, ``tokens`` each text; ``show``: how it goes.

    RuntimeError with what locust printed where it could not begin.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        command = [
            sys.executable, "-m", "locust", "-f", str(_HERE / "locustfile.py"), "--headless",
            "--host", server.url, "--users", str(clients), "--spawn-rate", str(clients),
            "--run-time", f"{seconds}s", "--stop-timeout", "60", "--tokens", str(tokens),
            "--told", str(told), *([] if show else ["--only-summary"]),
        ]  # fmt: skip
        environment = dict(os.environ) | ({"EMOKERNEL_API_KEY": server.key} if server.key else {})
        ran = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds + 600,
        )
        if not told.exists():
            raise RuntimeError(f"locust ended with {ran.returncode}:\n{(ran.stdout or '')[-3000:]}")
        return Crowd(json.loads(told.read_text()))
