"""Rows of labelled texts from files in UTF-8; docs/queries.md has their forms.

A ``.json`` file may have ``{emotion: [text, ...]}`` under the key ``emotions`` too, beside
``neutral``, ``name`` and ``licence``. Fields of a ``.tsv`` file are taken as they stand, quotation
marks included.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.lab.extract.labelled_texts import NEUTRAL, Row
from emokernel.vectors.formats.json_files import unique

FILE_TYPES = (".json", ".jsonl", ".tsv")
TEXT_COLUMNS = ("text", "query", "sentence", "content")
LABEL_COLUMNS = ("emotion", "label", "labels", "class")

# The place of a line, for messages, and its text.
_Line = tuple[str, str]


def parse_rows(text: str) -> dict[str, tuple[int, int]]:
    """``rows`` of `read_labelled` as one writes them on a command line: "joy=0:50,neutral=50:90".

    Raises EmokernelError where that is not what the text is.
    """
    ranges: dict[str, tuple[int, int]] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*([^=]*[^=\s])\s*=\s*([0-9]{1,9}):([0-9]{1,9})\s*", part)
        if not match:
            raise EmokernelError(f"{part!r} labels no rows: write emotion=first:end, as joy=0:50")
        if match[1] in ranges:
            raise EmokernelError(f"{text!r} gives rows of {match[1]!r} twice: give one range")
        ranges[match[1]] = int(match[2]), int(match[3])
    return ranges


def json_rows(
    path: Path, content: str, ranges: Mapping[str, tuple[int, int]] | None
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of a JSON file, and what it says of itself, for the provenance."""
    try:
        value = json.loads(content, object_pairs_hook=unique)
    except EmokernelError as error:
        raise EmokernelError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise EmokernelError(f"{path} is no JSON file ({error})") from error
    if isinstance(value, list):
        return _flat(path, value, ranges)
    if ranges is not None:
        raise EmokernelError(f"{path}: row ranges label a flat JSON list; these texts have labels")
    classes, facts = value, {}
    if isinstance(value, dict) and isinstance(value.get("emotions"), dict):
        facts = {key: value[key] for key in ("name", "licence", "version") if key in value}
        classes = value["emotions"] | ({NEUTRAL: value[NEUTRAL]} if NEUTRAL in value else {})
    if not isinstance(classes, dict) or not classes:
        raise EmokernelError(
            f'{path} needs emotions with their texts, {{"joy": [text, ...]}}, or a list of texts'
        )
    labelled: list[Row] = []
    for emotion, texts in classes.items():
        if not isinstance(texts, list):
            raise EmokernelError(f"{path}: {emotion!r} needs a list of texts")
        if not texts:
            raise EmokernelError(f"{path}: {emotion!r} has no texts: give it some or remove it")
        labelled += [(f"text {n} of {emotion!r}", emotion, text) for n, text in enumerate(texts)]
    return labelled, facts


def _flat(
    path: Path, texts: list[Any], ranges: Mapping[str, tuple[int, int]] | None
) -> tuple[list[Row], dict[str, Any]]:
    if ranges is None:
        ranges = {NEUTRAL: (0, len(texts))} if texts else {}
    elif not ranges:
        raise EmokernelError(f"{path}: no row ranges given: name some, or leave rows away")
    labels: dict[int, str] = {}
    for emotion, (first, end) in ranges.items():
        if not 0 <= first < end <= len(texts):
            raise EmokernelError(
                f"{path}: rows {first} to {end} of {emotion!r} are no part of its {len(texts)}"
                " rows: give the first row and the one behind the last, counted from 0"
            )
        for row in range(first, end):
            if row in labels:
                raise EmokernelError(
                    f"{path}: row {row} is in the ranges of {labels[row]!r} and {emotion!r}: give"
                    " it to one"
                )
            labels[row] = emotion
    left = len(texts) - len(labels)
    facts = {"rows without a label, left out": left} if left else {}
    return [(f"row {row}", labels[row], texts[row]) for row in sorted(labels)], facts


def table_rows(path: Path, content: str, text: str | None, label: str | None) -> Iterator[Row]:
    """The rows of a JSONL or TSV file, of the columns called ``text`` and ``label`` or as usual."""
    lines = [(f"line {n}", line) for n, line in enumerate(content.split("\n"), 1)]
    for place, row in (_objects if path.suffix.lower() == ".jsonl" else _fields)(path, lines):
        source = f"{path}, {place}"
        of_label = column(source, label, LABEL_COLUMNS, row, "label")
        yield place, row[of_label], row[column(source, text, TEXT_COLUMNS, row, "text")]


def _objects(path: Path, lines: Iterable[_Line]) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise EmokernelError(f"{path}, {place} is no JSON ({error})") from error
        if not isinstance(row, dict):
            raise EmokernelError(f'{path}, {place} needs an object, {{"text": .., "emotion": ..}}')
        yield place, row


def _fields(path: Path, lines: Iterable[_Line]) -> Iterator[tuple[str, dict[str, Any]]]:
    (_, first), *rest = ((place, line.removesuffix("\r")) for place, line in lines)
    header = [name.strip() for name in first.split("\t")]
    for place, line in rest:
        fields = line.split("\t")
        if fields == [""]:
            continue
        if len(fields) != len(header):
            raise EmokernelError(
                f"{path}, {place} has {len(fields)} columns, the first row names {len(header)}:"
                " separate columns by one tab"
            )
        yield place, dict(zip(header, fields, strict=True))


def column(
    source: str, wanted: str | None, usual: Sequence[str], columns: Iterable[str], kind: str
) -> str:
    """The column called ``wanted``, or the one with a usual name."""
    columns = list(columns)
    if wanted is not None:
        if wanted in columns:
            return wanted
        near = difflib.get_close_matches(wanted, columns, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise EmokernelError(
            f"{source}: no column {wanted!r}.{hint} Known: {', '.join(columns) or 'none'}."
        )
    known = [column for column in columns if column.lower() in usual]
    if len(known) == 1:
        return known[0]
    problem = f"{' and '.join(known)} could both be" if known else "none is"
    raise EmokernelError(
        f"{source}: of the columns {', '.join(columns) or '(none)'} {problem} the {kind}; name it"
        f" by {kind}= (--{kind}-column), or call it {usual[0]!r} (the first row of a .tsv file is"
        " the names)"
    )
