"""Labelled texts from files and from Hugging Face datasets, for queries and for given texts alike.

The file types, all UTF-8:

- ``.json``: ``{emotion: [text, ...]}``, the form of EmotionQuery; the same under the key
  ``emotions``, beside ``neutral``, ``name`` and ``licence``, the form of the shipped
  ``queries.json``; or a flat list of texts, which ``rows`` labels.
- ``.jsonl``: an object with a text and an emotion on each line; ``null`` is neutral.
- ``.tsv``: two or more columns, named by the first row; fields are taken as they stand, quotation
  marks included.

Emotions are stripped and lower-cased; "neutral" is the one that fits every emotion. A text that
stands in one class twice, but for case and spacing, is dropped and counted in the provenance.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.extras import need

# What the name of a data set of the Hub begins with, where a file may stand as well.
HUB = "hub:"
NEUTRAL = "neutral"
TEXT_COLUMNS = ("text", "query", "sentence", "content")
LABEL_COLUMNS = ("emotion", "label", "labels", "class")
# Half a character of UTF-16, which no tokenizer takes.
_HALF = re.compile("[\ud800-\udfff]")

# The place in the source, for messages; the label as the source has it; the text.
_Row = tuple[str, Any, Any]


@dataclass(frozen=True)
class LabelledTexts:
    """``rows`` of (emotion, text), without duplicates, in the order of the source.

    The emotion None is neutral. ``provenance``: name, licence, sha256, number of texts and of
    duplicates that were dropped.
    """

    rows: tuple[tuple[str | None, str], ...]
    provenance: Mapping[str, Any] = field(compare=False)


def read_labelled(
    path: str | PathLike[str],
    *,
    text: str | None = None,
    label: str | None = None,
    label_names: Sequence[str] | None = None,
    rows: Mapping[str, tuple[int, int]] | None = None,
    licence: str | None = None,
) -> LabelledTexts:
    """Read a file of one of the types above.

    ``text`` and ``label`` name the columns where they are not called as usual, ``label_names``
    gives the emotions of labels that are numbers, and ``rows`` those of a flat JSON list:
    ``{"anger": (0, 50), "neutral": (250, 400)}``, first row and the one behind the last, counted
    from 0; rows in no range are left out and counted. Without it a flat list is neutral.

    Raises FileNotFoundError, and EmokernelError for anything in the file that is not as above.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of texts: {path}")
    readers = {".json": _json, ".jsonl": _jsonl, ".tsv": _tsv}
    if path.suffix.lower() not in readers:
        raise EmokernelError(f"{path}: texts are read from {', '.join(readers)} files")
    data = path.read_bytes()
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EmokernelError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    facts: dict[str, Any] = {"name": path.name, "licence": "not stated"}
    if path.suffix.lower() == ".json":
        found = _json(path, content, rows, facts)
    elif rows is not None:
        raise EmokernelError(f"{path}: row ranges label a flat JSON list; this file has labels")
    else:
        found = readers[path.suffix.lower()](path, content, text, label)
    cleaned = _clean(str(path), found, label_names)
    if licence is not None:
        facts["licence"] = licence
    facts["sha256"] = hashlib.sha256(data).hexdigest()
    return LabelledTexts(cleaned.rows, facts | cleaned.provenance)


def labelled_dataset(
    source: Any,
    *,
    split: str = "train",
    text: str | None = None,
    label: str | None = None,
    label_names: Sequence[str] | None = None,
    config: str | None = None,
    revision: str | None = None,
    licence: str | None = None,
) -> LabelledTexts:
    """Labelled texts of a Hugging Face dataset; needs the package ``datasets``.

    ``source``: the id of a repository, a local folder (also one that ``save_to_disk`` wrote), or a
    ``Dataset`` or ``DatasetDict``. Class-label numbers become their names; of a column of lists of
    labels the rows with one label are taken, the others counted in the provenance.

    Raises FileNotFoundError for a dataset that does not exist, EmokernelError for one that cannot
    be read, for an unknown split or column, and for numbers without names.
    """
    table, name = _open_dataset(source, split, config, revision)
    text = _column(name, text, TEXT_COLUMNS, table.column_names, "text")
    label = _column(name, label, LABEL_COLUMNS, table.column_names, "label")
    feature = table.features[label] if table.features else None
    inner = getattr(feature, "feature", feature)
    if label_names is None:
        label_names = getattr(inner, "names", None)
    single, several = [], 0
    for number, (value, content) in enumerate(zip(table[label], table[text], strict=True)):
        labels = value if isinstance(value, list) else [value]
        if len(labels) == 1:
            single.append((f"row {number}", labels[0], content))
        else:
            several += 1
    cleaned = _clean(name, single, label_names)
    digest = hashlib.sha256(json.dumps(cleaned.rows).encode())
    facts = {
        "name": name,
        "split": split,
        "revision": revision or "not stated",
        "licence": licence or getattr(table.info, "license", None) or "not stated",
        "sha256": digest.hexdigest(),
    }
    if several:
        facts["rows without exactly one label, left out"] = several
    return LabelledTexts(cleaned.rows, facts | cleaned.provenance)


def read_texts(path: str | PathLike[str], **columns: Any) -> dict[str, list[str]]:
    """``{emotion: texts}`` of given texts, with their contrast under "neutral".

    The file types and ``columns`` of `read_labelled`, and its errors; EmokernelError too if there
    is no neutral class, or nothing else.
    """
    return contrasted(read_labelled(path, **columns))


def texts_from_dataset(source: Any, **columns: Any) -> dict[str, list[str]]:
    """What `read_texts` gives, from a Hugging Face dataset; arguments of `labelled_dataset`."""
    return contrasted(labelled_dataset(source, **columns))


def contrasted(texts: LabelledTexts) -> dict[str, list[str]]:
    """``{emotion: texts}`` with "neutral"; EmokernelError unless it and an emotion are there."""
    classes: dict[str, list[str]] = {}
    for emotion, content in texts.rows:
        classes.setdefault(NEUTRAL if emotion is None else emotion, []).append(content)
    name = texts.provenance["name"]
    if NEUTRAL not in classes:
        near = difflib.get_close_matches(NEUTRAL, classes, n=1)
        hint = f"; is {near[0]!r} meant to be it?" if near else ""
        raise EmokernelError(
            f"{name}: no class {NEUTRAL!r}, which the emotions are contrasted with, among"
            f" {', '.join(classes)}: add neutral texts{hint}"
        )
    if len(classes) == 1:
        raise EmokernelError(
            f"{name}: all texts are neutral: an emotion needs texts of its own to be contrasted"
        )
    return classes


def parse_rows(text: str) -> dict[str, tuple[int, int]]:
    """``rows`` of `read_labelled` as one writes them on a command line: "joy=0:50,neutral=50:90".

    Raises EmokernelError where that is not what the text is.
    """
    ranges: dict[str, tuple[int, int]] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*([^=]*[^=\s])\s*=\s*([0-9]{1,9}):([0-9]{1,9})\s*", part)
        if not found:
            raise EmokernelError(f"{part!r} labels no rows: write emotion=first:end, as joy=0:50")
        if found[1] in ranges:
            raise EmokernelError(f"{text!r} gives rows of {found[1]!r} twice: give one range")
        ranges[found[1]] = int(found[2]), int(found[3])
    return ranges


def _clean(source: str, rows: Iterable[_Row], label_names: Sequence[str] | None) -> LabelledTexts:
    """Emotions by name, texts stripped and without duplicates; the provenance counts them."""
    kept: dict[tuple[str | None, str], tuple[str | None, str]] = {}
    dropped: Counter[str] = Counter()
    for place, label, text in rows:
        if not isinstance(text, str):
            raise EmokernelError(f"{source}, {place}: {str(text)[:40]!r} is no text")
        if not text.strip():
            raise EmokernelError(f"{source}, {place}: an empty text: fill it in or remove it")
        if _HALF.search(text):
            raise EmokernelError(
                f"{source}, {place}: {text[:40]!a} holds half a character (a surrogate), as a"
                " text cut within an emoji does: repair or remove it"
            )
        emotion = _emotion(f"{source}, {place}", label, label_names)
        same = emotion, normalised(text)
        if same in kept:
            dropped[NEUTRAL if emotion is None else emotion] += 1
        else:
            kept[same] = emotion, text.strip()
    if not kept:
        raise EmokernelError(f"{source} holds no texts: give it some")
    return LabelledTexts(
        tuple(kept.values()), {"texts": len(kept), "duplicates dropped": dict(dropped)}
    )


def normalised(text: str) -> str:
    """What two texts have in common that differ in case and spacing alone."""
    return " ".join(text.casefold().split())


def _emotion(place: str, label: Any, names: Sequence[str] | None) -> str | None:
    """The emotion of a label, by name; None for neutral."""
    if label is None:
        return None
    if isinstance(label, bool) or not isinstance(label, (int, str)):
        raise EmokernelError(f"{place}: {str(label)[:40]!r} is no name of an emotion")
    if isinstance(label, int) or re.fullmatch(r"-?[0-9]+([ ,;]+[0-9]+)*", label.strip()):
        if names is None:
            raise EmokernelError(
                f"{place}: the label {label!r} is a number without a name: pass label_names, the"
                " emotions in their order"
            )
        try:
            number = int(label)
        except ValueError:
            raise EmokernelError(f"{place}: {label!r} is more than one label: keep one") from None
        if not 0 <= number < len(names):
            raise EmokernelError(f"{place}: label {number} has no name among {len(names)} names")
        label = names[number]
    emotion = label.strip().lower()
    if not emotion:
        raise EmokernelError(f"{place}: an empty name of an emotion: name it")
    return None if emotion == NEUTRAL else emotion


def _json(
    path: Path, content: str, rows: Mapping[str, tuple[int, int]] | None, facts: dict[str, Any]
) -> list[_Row]:
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
    found: list[_Row] = []
    for emotion, texts in classes.items():
        if not isinstance(texts, list):
            raise EmokernelError(f"{path}: {emotion!r} needs a list of texts")
        if not texts:
            raise EmokernelError(f"{path}: {emotion!r} has no texts: give it some or remove it")
        found += [(f"text {n} of {emotion!r}", emotion, text) for n, text in enumerate(texts)]
    return found


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
) -> list[_Row]:
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


def _jsonl(path: Path, content: str, text: str | None, label: str | None) -> Iterator[_Row]:
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
            row[_column(source, label, LABEL_COLUMNS, row, "label")],
            row[_column(source, text, TEXT_COLUMNS, row, "text")],
        )


def _tsv(path: Path, content: str, text: str | None, label: str | None) -> Iterator[_Row]:
    lines = [line.removesuffix("\r").split("\t") for line in content.split("\n")]
    header = [name.strip() for name in lines[0]]
    of_text = header.index(_column(str(path), text, TEXT_COLUMNS, header, "text"))
    of_label = header.index(_column(str(path), label, LABEL_COLUMNS, header, "label"))
    for number, fields in enumerate(lines[1:], 2):
        if fields == [""]:
            continue
        if len(fields) != len(header):
            raise EmokernelError(
                f"{path}, line {number} has {len(fields)} columns, the first row names"
                f" {len(header)}: separate columns by one tab"
            )
        yield f"line {number}", fields[of_label], fields[of_text]


def _column(
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
    found = [column for column in columns if column.lower() in usual]
    if len(found) == 1:
        return found[0]
    problem = f"{' and '.join(found)} could both be" if found else "none is"
    raise EmokernelError(
        f"{source}: of the columns {', '.join(columns) or '(none)'} {problem} the {kind}; name it"
        f" by {kind}=, or call it {usual[0]!r}"
    )


def _open_dataset(
    source: Any, split: str, config: str | None, revision: str | None
) -> tuple[Any, str]:
    """The table of one split, and a name for it."""
    datasets = need("datasets")
    name = str(source) if isinstance(source, (str, PathLike)) else "a dataset"
    if isinstance(source, (str, PathLike)):
        folder = Path(source)
        saved = any((folder / file).is_file() for file in ("dataset_dict.json", "state.json"))
        try:
            if saved:
                source = datasets.load_from_disk(str(folder))
            else:
                source = datasets.load_dataset(str(source), config, revision=revision)
        except FileNotFoundError:
            raise
        except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise EmokernelError(f"the dataset {name} cannot be read: {reason}") from error
    if isinstance(source, datasets.DatasetDict):
        if split not in source:
            raise EmokernelError(
                f"{name} has no split {split!r}: choose one of {', '.join(source) or 'none'}"
            )
        source = source[split]
    if not isinstance(source, datasets.Dataset):
        raise EmokernelError(
            f"{type(source).__name__} is no dataset: pass a repository id, a folder, a Dataset or a"
            " DatasetDict"
        )
    return source, name
