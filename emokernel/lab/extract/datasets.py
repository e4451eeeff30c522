"""Labelled texts from files and from Hugging Face datasets, for queries and for given texts alike.

`text_files` reads the files; what a text and its emotion have to be is in `labelled_texts`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.extras import need
from emokernel.lab.extract.labelled_texts import LabelledTexts, clean
from emokernel.lab.extract.text_files import (
    FILE_TYPES,
    LABEL_COLUMNS,
    TEXT_COLUMNS,
    column,
    json_rows,
    table_rows,
)

# What the name of a data set of the Hub begins with, where a file may stand as well.
HUB = "hub:"


def read_labelled(
    path: str | PathLike[str],
    *,
    split: str = "train",
    text: str | None = None,
    label: str | None = None,
    label_names: Sequence[str] | None = None,
    rows: Mapping[str, tuple[int, int]] | None = None,
) -> LabelledTexts:
    """Read a file of a type of `text_files`, or "hub:REPOSITORY", the ``split`` of a data set.

    ``text`` and ``label`` name the columns where they are not called as usual, ``label_names``
    gives the emotions of labels that are numbers, and ``rows`` those of a flat JSON list:
    ``{"anger": (0, 50), "neutral": (250, 400)}``, first row and the one behind the last, counted
    from 0; rows in no range are left out and counted. Without it a flat list is neutral.

    Raises FileNotFoundError, and EmokernelError for anything in the file that is not as above.
    """
    ending = Path(path).suffix.lower()
    hub = str(path).startswith(HUB)
    if rows is not None and (hub or ending != ".json"):
        raise EmokernelError(f"{path}: row ranges label a flat JSON list; these texts have labels")
    if hub:
        name = str(path).removeprefix(HUB)
        return labelled_dataset(name, split=split, text=text, label=label, label_names=label_names)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of texts: {path}")
    if ending not in FILE_TYPES:
        raise EmokernelError(f"{path}: texts are read from {', '.join(FILE_TYPES)} files")
    data = path.read_bytes()
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EmokernelError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    facts: dict[str, Any] = {"name": path.name, "licence": "not stated"}
    if ending == ".json":
        labelled, more = json_rows(path, content, rows)
        facts |= more
    else:
        labelled = table_rows(path, content, text, label)
    facts["sha256"] = hashlib.sha256(data).hexdigest()
    return clean(str(path), labelled, label_names, facts)


def labelled_dataset(
    source: Any,
    *,
    split: str = "train",
    text: str | None = None,
    label: str | None = None,
    label_names: Sequence[str] | None = None,
) -> LabelledTexts:
    """Labelled texts of a Hugging Face dataset; needs the package ``datasets``.

    ``source``: the id of a repository, a local folder, or a ``Dataset`` or ``DatasetDict``, such as
    one of another configuration or revision. Class-label numbers become their names; of a column of
    lists of labels the rows with one label are taken, the others counted in the provenance.

    Raises FileNotFoundError for a dataset that does not exist, EmokernelError for one that cannot
    be read, for an unknown split or column, and for numbers without names.
    """
    table, name = _open_dataset(source, split)
    text = column(name, text, TEXT_COLUMNS, table.column_names, "text")
    label = column(name, label, LABEL_COLUMNS, table.column_names, "label")
    if label_names is None:
        feature = (table.features or {}).get(label)
        label_names = getattr(getattr(feature, "feature", feature), "names", None)
    labelled = zip(table[label], table[text], strict=True)
    rows = [(f"row {number}", *row) for number, row in enumerate(labelled)]
    licence = getattr(table.info, "license", None) or "not stated"
    facts = {"name": name, "split": split, "licence": licence}
    texts = clean(name, rows, label_names, facts)
    digest = hashlib.sha256(json.dumps(texts.rows).encode()).hexdigest()
    return replace(texts, provenance={**texts.provenance, "sha256": digest})


def _open_dataset(source: Any, split: str) -> tuple[Any, str]:
    """The table of one split, and a name for it."""
    datasets = need("datasets")
    name = "a dataset"
    if isinstance(source, (str, PathLike)):
        name = str(source)
        try:
            source = datasets.load_dataset(name)
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
