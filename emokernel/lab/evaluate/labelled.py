"""Texts by humans with one label each, which the ceiling of consistency is measured on.

Files are UTF-8, by their ending:

- ``.tsv``: a text and its labels, separated by a tab, the labels by commas; further columns are not
  read. A first row that names such columns ("text" and "label", say) is a header. The files of
  GoEmotions are of this kind.
- ``.jsonl``: an object with a text and a label, or a list of labels, on each line.
- ``.json``: ``{label: [text, ...]}``, as queries have it.

Labels that are numbers are looked up in ``labels.txt`` beside the file, one name on each line from
number 0 on. Names are stripped and lower-cased.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.lab.extract import datasets
from emokernel.lab.extract.labelled_texts import NEUTRAL
from emokernel.lab.extract.text_files import LABEL_COLUMNS, TEXT_COLUMNS, json_rows

# The place in the source, for messages; the text; its labels.
_Row = tuple[str, Any, Sequence[Any]]


def read_labelled(source: str) -> tuple[list[str], list[str]]:
    """(texts, labels) of the rows that have exactly one label.

    ``source``: a file of a type above, or "hub:REPOSITORY" for the test split of a data set of the
    Hub, see `emokernel.lab.extract.datasets.labelled_dataset`.

    Raises FileNotFoundError, and EmokernelError for a file that is not as above and for one without
    a row that has a single label.
    """
    if source.startswith(datasets.HUB):
        rows = datasets.labelled_dataset(source.removeprefix(datasets.HUB), split="test").rows
        return [text for _, text in rows], [emotion or NEUTRAL for emotion, _ in rows]
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of labelled texts: {path}")
    readers = {".tsv": _tsv, ".jsonl": _jsonl, ".json": _json}
    if path.suffix.lower() not in readers:
        raise EmokernelError(f"{path}: labelled texts are read from {', '.join(readers)} files")
    lines = [line.removesuffix("\r") for line in _read(path).split("\n")]
    names = path.parent / "labels.txt"
    names = _read(names).splitlines() if names.is_file() else None
    texts, labels = [], []
    for place, text, labels_of_row in readers[path.suffix.lower()](path, lines):
        if not isinstance(text, str) or not text.strip():
            raise EmokernelError(f"{place}: {str(text)[:40]!r} is no text: fill it in or remove it")
        if len(labels_of_row) == 1:
            texts.append(text)
            labels.append(_name(place, labels_of_row[0], names))
    if not texts:
        raise EmokernelError(f"{path}: no row has exactly one label: give texts that have")
    return texts, labels


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EmokernelError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error


def _tsv(path: Path, lines: Sequence[str]) -> Iterator[_Row]:
    header = [name.strip().lower() for name in lines[0].split("\t")]
    columns = _columns(header)
    text, label = map(header.index, columns) if columns else (0, 1)
    for number, line in enumerate(lines, 1):
        if not line.strip() or (columns and number == 1):
            continue
        fields = line.split("\t")
        if len(fields) <= max(text, label):
            raise EmokernelError(
                f"{path}, line {number}: needs a text, a tab and its labels, separated by commas"
            )
        yield f"{path}, line {number}", fields[text], fields[label].split(",")


def _jsonl(path: Path, lines: Sequence[str]) -> Iterator[_Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise EmokernelError(f"{place} is no JSON ({error})") from error
        columns = _columns(row) if isinstance(row, dict) else None
        if not columns:
            raise EmokernelError(
                f'{place} needs a text and a label, {{"text": "...", "label": "joy"}}'
            )
        text, label = (row[column] for column in columns)
        yield place, text, label if isinstance(label, list) else [label]


def _json(path: Path, lines: Sequence[str]) -> Iterator[_Row]:
    for place, label, text in json_rows(path, "\n".join(lines), None)[0]:
        yield f"{path}, {place}", text, [label]


def _columns(names: Iterable[str]) -> tuple[str, str] | None:
    """The names of the text and of the labels; None unless there is one of each."""
    names = list(names)
    texts = [name for name in names if name in TEXT_COLUMNS]
    labels = [name for name in names if name in LABEL_COLUMNS]
    return (texts[0], labels[0]) if len(texts) == len(labels) == 1 else None


def _name(place: str, label: Any, names: Sequence[str] | None) -> str:
    """The name of a label, which may be a number."""
    if label is None:
        return NEUTRAL
    if isinstance(label, bool) or not isinstance(label, (int, str)) or not str(label).strip():
        raise EmokernelError(f"{place}: {str(label)[:40]!r} is no name of a label")
    label = str(label).strip().lower()
    if not label.isdecimal():
        return label
    if names is None or int(label) >= len(names):
        raise EmokernelError(
            f"{place}: the label {label} is a number without a name: put labels.txt beside the"
            " file, with the name of each number on a line of its own"
        )
    return names[int(label)].strip().lower()
