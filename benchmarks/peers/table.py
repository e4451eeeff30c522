"""The tables of `run.py`, from what it recorded.

python benchmarks/peers/table.py benchmarks/results/peers-MACHINE.jsonl
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from shapes import Case

from emokernel.atomic import write_text
from emokernel.bench.harness import PairedRatio, read

Row = dict[str, Any]
_PAIR = "ratio", "noise"


def write_table(rows: Sequence[Row], path: Path) -> str:
    """The tables of one run in markdown, which it writes to ``path``."""
    text = tables(rows)
    write_text(path, text + "\n")
    return text


def tables(rows: Sequence[Row]) -> str:
    """What was run, the checks, and for each model a ratio, what it is of, and what is added."""
    parts = [_about(rows), "## What each does, against a plain hook", _checks(rows)]
    timed = [row for row in rows if row["row"] == "case"]
    for model in dict.fromkeys(row["model"] for row in timed):
        of_model = [row for row in timed if row["model"] == model]
        for title, cell in _TABLES.items():
            if not any(map(cell, (row for row in of_model if "empty" not in row))):
                continue
            parts += [f"## {model}: {title}", _table(of_model, cell)]
    reasons = _reasons(rows)
    parts += ["Empty cells, and checks that failed:", reasons] if reasons else []
    return "\n\n".join(part for part in parts if part)


def case_of(row: Row) -> Case:
    """The case of a row of results."""
    return Case(row["batch"], row["share"], row["mixes"], row["law"])


def name_of(row: Row, rows: Sequence[Row]) -> str:
    """A peer's name with the version that the check recorded."""
    for other in rows:
        if other["row"] == "check" and other["peer"] == row["peer"] and "about" in other:
            versions = other["about"]["versions"]
            of_peer = (number for name, number in versions.items() if _is_of(name, row["peer"]))
            version = next(of_peer, None)
            return f"{row['peer']} {version}" if version else row["peer"]
    return row["peer"]


def _is_of(package: str, peer: str) -> bool:
    return package.replace("_", "-").startswith(peer)


def _about(rows: Sequence[Row]) -> str:
    last = rows[-1]

    def values(name: str) -> str:
        return " or ".join(str(each) for each in dict.fromkeys(row[name] for row in rows))

    return (
        f"{last['machine']['cpu']}, {values('threads')} threads; {values('dtype')}; greedy,"
        f" {values('prompt_tokens')} tokens of prompt and {values('new_tokens')} new ones;"
        f" {last['date']}. Ratios with their 95 % interval, paired by round."
    )


def _checks(rows: Sequence[Row]) -> str:
    lines = [
        "| peer | model | law | torch, transformers | cosine | length | nothing asked | batch of 3"
        " | three mixes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["row"] != "check" or "empty" in row:
            continue
        versions = row["about"]["versions"]
        engine = ", ".join(versions.get(each, "-") for each in ("torch", "transformers"))
        law = f"{row['law']}: {row['about']['own_law']}" if row["about"]["own_law"] else row["law"]
        cells = (name_of(row, rows), row["model"], law, engine, *_probe(row["one"]))
        ends = _idle(row["idle"]), *(_held(row[each]) for each in ("batch", "rows"))
        lines.append("| " + " | ".join([*cells, *ends]) + " |")
    return "\n".join(dict.fromkeys(lines))  # a run that was added to checks again


def _probe(probe: Row) -> tuple[str, str]:
    if probe["cosine"] is None:
        return "", ""
    return f"{probe['cosine']:.5f}", " ".join(f"{each:.4f}" for each in probe["lengths"])


def _idle(idle: Row) -> str:
    if not idle:
        return ""
    return "the same bits" if idle["bits"] else f"within {idle['largest']:.1e}"


def _held(probe: Row) -> str:
    return "no" if probe["fault"] else "yes" if probe["cosine"] is not None else ""


def _unpatched(row: Row) -> str:
    return f"{median(row['token_ms']['unpatched']):.1f}"


def _told(row: Row, what: str = "token") -> str:
    ratio, noise = (PairedRatio(*row[f"{what}_{each}"], row["rounds"]) for each in _PAIR)
    return ratio.in_words(noise)


def _added(row: Row) -> str:
    if not row["token_seen"]:
        return "not seen"
    middle, low, high = (1e3 * each for each in row["added_ms_per_layer"])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def _first(row: Row) -> str:
    return _told(row, "first")


def _memory(row: Row) -> str:
    if "memory_added" not in row:
        return ""
    added, noise = (row[each] / 2**20 for each in ("memory_added", "memory_noise"))
    return f"{added:.1f}" if abs(added) > noise else f"within {noise:.1f}"


_TABLES: dict[str, Callable[[Row], str]] = {
    "a token, steered / unpatched": _told,
    "milliseconds of a token, unpatched, in each system's own engine": _unpatched,
    "microseconds added by token and steered layer": _added,
    "the first token, steered / unpatched": _first,
    "MiB that the peak of a generation is higher, beside what steering holds all the time": _memory,
}


def _table(rows: Sequence[Row], cell: Callable[[Row], str]) -> str:
    columns = list(dict.fromkeys(case_of(row) for row in rows))
    lines = [f"| | {' | '.join(map(str, columns))} |", "|---" * (1 + len(columns)) + "|"]
    for peer in dict.fromkeys(row["peer"] for row in rows):
        cells = {case_of(row): row for row in rows if row["peer"] == peer and "empty" not in row}
        told = [cell(cells[column]) if column in cells else "" for column in columns]
        lines.append(f"| {peer} | {' | '.join(told)} |")
    return "\n".join(lines)


def _reasons(rows: Sequence[Row]) -> str:
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        where = str(case_of(row)) if row["row"] == "case" else row.get("law", "")
        if "empty" in row:
            reason = row["empty"]
        elif "stopped" in row:
            reason = f"{row['stopped']}, after {row['rounds']} rounds"
        else:
            continue
        found.setdefault((row["peer"], reason), []).append(f"{row.get('model', '')} {where}")
    return "\n".join(
        f"- {peer}: {reason}" + (f" ({'; '.join(each)})" if any(map(str.strip, each)) else "")
        for (peer, reason), each in found.items()
    )


if __name__ == "__main__":
    print(tables(read(Path(sys.argv[1]))))
