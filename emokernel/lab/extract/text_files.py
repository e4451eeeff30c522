"""Rows of labelled texts from files.

The file types, all UTF-8:

- ``.json``: ``{emotion: [text, ...]}``, the form of EmotionQuery; the same under the key
  ``emotions``, beside ``neutral``, ``name`` and ``licence``, the form of the shipped
  ``queries.json``; or a flat list of texts, which ``rows`` labels.
- ``.jsonl``: an object with a text and an emotion on each line; ``null`` is neutral.
- ``.tsv``: two or more columns, named by the first row; fields are taken as they stand, quotation
  marks included.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.lab.extract.labelled_texts import NEUTRAL, Row

FILE_TYPES = (".json", ".jsonl", ".tsv")
TEXT_COLUMNS = ("text", "query", "sentence", "content")
LABEL_COLUMNS = ("emotion", "label", "labels", "class")


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
    path: Path, content: str, rows: Mapping[str, tuple[int, int]] | None, facts: dict[str, Any]
) -> list[Row]:
    try:
        value = json.loads(content, object_pairs_hook=_once)
    except EmokernelError as error:
        raise EmokernelError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise EmokernelError(f"{path} is no JSON file ({error})") from error
    if isinstance(value, list):
        return _flat(path, value, rows, facts)
    if rows is not None:
        raise EmokernelError(f"{path}: row ranges label a flat JSON list; this file has labels")
    if isinstance(value, dict) and isinstance(value.get("emotions"), dict):
        facts |= {key: value[key] for key in ("name", "licence", "version") if key in value}
        classes = value["emotions"] | ({NEUTRAL: value[NEUTRAL]} if NEUTRAL in value else {})
    else:
        classes = value
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
    return labelled


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; EmokernelError for a key that stands there twice, which a dict forgets."""
    counts = Counter(key for key, _ in pairs)
    for key, count in counts.items():
        if count > 1:
            raise EmokernelError(f"the key {key!r} stands there {count} times: merge them")
    return dict(pairs)


def _flat(
    path: Path,
    texts: list[Any],
    rows: Mapping[str, tuple[int, int]] | None,
    facts: dict[str, Any],
) -> list[Row]:
    if rows is None:
        return [(f"row {number}", None, text) for number, text in enumerate(texts)]
    labels: dict[int, str] = {}
    for emotion, (first, end) in rows.items():
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
    if not labels:
        raise EmokernelError(f"{path}: no row ranges given: name some, or leave rows away")
    if len(labels) < len(texts):
        facts["rows without a label, left out"] = len(texts) - len(labels)
    return [(f"row {row}", labels[row], texts[row]) for row in sorted(labels)]


def jsonl_rows(path: Path, content: str, text: str | None, label: str | None) -> Iterator[Row]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise EmokernelError(f"{path}, {place} is no JSON ({error})") from error
        if not isinstance(row, dict):
            raise EmokernelError(f'{path}, {place} needs an object, {{"text": .., "emotion": ..}}')
        source = f"{path}, {place}"
        yield (
            place,
            row[column(source, label, LABEL_COLUMNS, row, "label")],
            row[column(source, text, TEXT_COLUMNS, row, "text")],
        )


def tsv_rows(path: Path, content: str, text: str | None, label: str | None) -> Iterator[Row]:
    lines = [line.removesuffix("\r").split("\t") for line in content.split("\n")]
    header = [name.strip() for name in lines[0]]
    of_text = header.index(column(str(path), text, TEXT_COLUMNS, header, "text"))
    of_label = header.index(column(str(path), label, LABEL_COLUMNS, header, "label"))
    for number, fields in enumerate(lines[1:], 2):
        if fields == [""]:
            continue
        if len(fields) != len(header):
            raise EmokernelError(
                f"{path}, line {number} has {len(fields)} columns, the first row names"
                f" {len(header)}: separate columns by one tab"
            )
        yield f"line {number}", fields[of_label], fields[of_text]


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
        f" by {kind}=, or call it {usual[0]!r}"
    )
