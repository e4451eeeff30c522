"""Going on with a run that was interrupted: what of it is finished, if it is the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from emokernel.bench.cases import Case
from emokernel.bench.harness import read
from emokernel.bench.prepared import BenchOptions
from emokernel.bench.results import Row
from emokernel.errors import EmokernelError
from emokernel.lab.measure.fingerprint import fingerprint
from emokernel.machine import machine, machine_slug, versions
from emokernel.vectors import EmotionVectors

# Of a machine; clocks and the like differ from run to run.
_MACHINE = ("cpu", "cores", "threads", "isa", "gpu")


class Begun(NamedTuple):
    """An earlier run: its date, and the rows of each case that it finished."""

    date: str
    cases: dict[Case, list[Row]]


def settings_of(
    model: PreTrainedModel, vectors: EmotionVectors, options: BenchOptions
) -> dict[str, Any]:
    """What two runs must have in common for their rows to be of one, as JSON knows it.

    The cases are none of it, nor is the time that a run may take.
    """
    weights = json.dumps(fingerprint(model), sort_keys=True).encode()
    chosen = asdict(options) | {"variants": [variant.name for variant in options.variants]}
    del chosen["required"]
    settings = {
        "model": hashlib.sha256(weights).hexdigest()[:16],
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "vectors": vectors.digest()[:16],
        "baselines": sorted({variant.baseline for variant in options.variants}),
        **chosen,
    }
    return json.loads(json.dumps(settings))


def begun(folder: Path, question: str, settings: Mapping[str, Any]) -> Begun | None:
    """The last run with these settings, versions and machine; None if there was no run at all.

    EmokernelError that says what differs if there were others only. A line that was torn and a case
    that lacks a row count as not measured.
    """
    path = folder / f"{question}-{machine_slug()}.jsonl"
    if not path.exists():
        return None
    rows = [row for row in read(path, last_run=False) if "settings" in row]
    if not rows:
        return None
    wanted = _facts(dict(settings), machine(), versions())
    same = [row for row in rows if _facts_of(row) == wanted]
    if not same:
        was = _facts_of(rows[-1])
        different = ", ".join(
            f"{key} ({_short(was.get(key))}, now {_short(wanted.get(key))})"
            for key in sorted({*was, *wanted})
            if was.get(key) != wanted.get(key)
        )
        raise EmokernelError(
            f"no run in {path} can be resumed; the last one differs in {different}: go on with its"
            " settings, or leave --resume out"
        )
    date = same[-1]["date"]
    found: dict[Case, dict[str, Row]] = {}
    for row in same:
        if row["date"] == date:  # of a case that was measured on, the last rows have all
            found.setdefault(_case(row), {})[row["variant"]] = row
    names = settings["variants"]
    return Begun(
        date,
        {
            case: [of[name] for name in names]
            for case, of in found.items()
            if all(name in of and of[name]["finished"] for name in names)
        },
    )


def _case(row: Row) -> Case:
    return Case(**{field: row[field] for field in Case.__dataclass_fields__})


def _facts_of(row: Row) -> dict[str, Any]:
    return _facts(row["settings"], row["machine"], row["versions"])


def _facts(
    settings: Mapping[str, Any], on: Mapping[str, Any], of: Mapping[str, Any]
) -> dict[str, Any]:
    facts = {f"machine: {key}": on.get(key) for key in _MACHINE}
    return dict(settings) | facts | {f"version of {name}": number for name, number in of.items()}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def rows_missing(found: Begun | None, wanted: Sequence[Case]) -> list[Case]:
    """The cases that are still to be measured."""
    return [case for case in wanted if found is None or case not in found.cases]
