"""Texts by humans with one label each, which the ceiling of consistency is measured on."""

from __future__ import annotations

from pathlib import Path

from emokernel.lab.extract import datasets
from emokernel.lab.extract.labelled_texts import NEUTRAL


def read_labelled(source: str) -> tuple[list[str], list[str]]:
    """(texts, labels) of a file that `datasets.read_labelled` knows, or of a data set of the Hub.

    "hub:REPOSITORY" is the test split of one, of which the rows with exactly one label count.
    Labels of a file that are numbers are looked up in ``labels.txt`` beside it, one name on each
    line from number 0 on. What `datasets` raises, this raises.
    """
    if source.startswith(datasets.HUB):
        found = datasets.labelled_dataset(source.removeprefix(datasets.HUB), split="test")
    else:
        named = Path(source).with_name("labels.txt")
        names = named.read_text("utf-8-sig").splitlines() if named.is_file() else None
        found = datasets.read_labelled(source, label_names=names)
    return [text for _, text in found.rows], [emotion or NEUTRAL for emotion, _ in found.rows]
