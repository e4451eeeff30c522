"""Results as JSON lines, one file per machine and question, to which every run appends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from emokernel.machine import machine, machine_slug, versions


def now() -> str:
    """The date and time (UTC), as results have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def append(
    folder: Path, question: str, rows: Iterable[Mapping[str, object]], date: str | None = None
) -> Path:
    """Appends ``rows`` to ``<folder>/<question>-<machine>.jsonl``; returns the file.

    Every line also holds the date (UTC) of the run, the machine and the versions. A run that
    appends several times gives its own ``date``, `now` when it began.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{question}-{machine_slug()}.jsonl"
    about = {
        "date": date or now(),
        "machine": machine(),
        "versions": versions(),
    }
    lines = "".join(json.dumps({**row, **about}) + "\n" for row in rows)
    with path.open("a", encoding="utf-8") as file:  # at once: another run may append as well
        file.write(lines)
    return path


def read(path: Path, *, last_run: bool = True) -> list[dict]:
    """The lines of a results file, by default those of its last run only."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    if last_run and rows:
        rows = [row for row in rows if row["date"] == rows[-1]["date"]]
    return rows
