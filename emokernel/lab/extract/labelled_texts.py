"""Texts with their emotions, in the form that everything is read into.

Emotions are stripped and lower-cased; "neutral" is the one that fits every emotion. A text that
stands in one class twice, but for case and spacing, is dropped and counted in the provenance.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from emokernel.errors import EmokernelError

NEUTRAL = "neutral"
# Half a character of UTF-16, which no tokenizer takes.
_HALF = re.compile("[\ud800-\udfff]")

# Several labels as numbers, and what stands between them.
_SEPARATED, _NUMBERS = re.compile(r"[ ,;]+"), re.compile(r"[0-9]+([ ,;]+[0-9]+)+")
# Under which the provenance counts rows that are not taken.
SEVERAL = "rows without exactly one label, left out"

# The place in the source, for messages; the label as the source has it; the text.
Row = tuple[str, Any, Any]


class LabelledText(NamedTuple):
    """A text and its emotion; None is neutral and fits every emotion."""

    emotion: str | None
    text: str


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with their emotions in the order of their source; immutable.

    ``provenance`` says where they come from: name, licence, sha256, number of texts and of
    duplicates that were dropped.
    """

    rows: tuple[LabelledText, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(LabelledText(*row) for row in self.rows))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    @property
    def emotions(self) -> tuple[str, ...]:
        """The emotions with texts of their own, in order."""
        return tuple(dict.fromkeys(row.emotion for row in self.rows if row.emotion is not None))

    @property
    def neutral(self) -> tuple[LabelledText, ...]:
        """The texts that fit every emotion."""
        return tuple(row for row in self.rows if row.emotion is None)

    def __iter__(self) -> Iterator[LabelledText]:
        return iter(self.rows)


def clean(
    source: str, rows: Iterable[Row], label_names: Sequence[str] | None, facts: Mapping[str, Any]
) -> LabelledTexts:
    """Emotions by name, texts stripped and without duplicates; counts of them beside ``facts``.

    A label may be a list of them, or numbers such as "4,27": rows with one label are kept.
    """
    kept: dict[tuple[str | None, str], LabelledText] = {}
    dropped: Counter[str] = Counter()
    several = 0
    for place, given, text in rows:
        labels = _SEPARATED.split(given) if _is_several(given) else given
        label, *more = labels if isinstance(labels, list) and labels else [labels]
        if more or label == []:
            several += 1
            continue
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
            kept[same] = LabelledText(emotion, text.strip())
    if not kept:
        raise EmokernelError(
            f"{source} holds no texts: give it some (the first row of a .tsv file names columns)"
            + (f"; {several} rows have not exactly one label" if several else "")
        )
    counts: dict[str, Any] = {"texts": len(kept), "duplicates dropped": dict(dropped)}
    if several:
        counts[SEVERAL] = several
    return LabelledTexts(tuple(kept.values()), {**facts, **counts})


def contrasted(texts: LabelledTexts) -> dict[str, list[str]]:
    """``{emotion: texts}`` with "neutral"; EmokernelError unless it and an emotion are there."""
    classes: dict[str, list[str]] = {}
    for emotion, content in texts:
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


def normalised(text: str) -> str:
    """What two texts have in common that differ in case and spacing alone."""
    return " ".join(text.casefold().split())


def _is_several(label: Any) -> bool:
    return isinstance(label, str) and _NUMBERS.fullmatch(label.strip()) is not None


def _emotion(place: str, label: Any, names: Sequence[str] | None) -> str | None:
    """The emotion of a label, by name; None for neutral."""
    if label is None:
        return None
    if isinstance(label, bool) or not isinstance(label, (int, str)):
        raise EmokernelError(f"{place}: {str(label)[:40]!r} is no name of an emotion")
    if isinstance(label, int) or re.fullmatch(r"-?[0-9]+", label.strip()):
        if names is None:
            raise EmokernelError(
                f"{place}: the label {label!r} is a number without a name: pass label_names"
                " (--label-names), the emotions in their order"
            )
        number = int(label)
        if not 0 <= number < len(names):
            raise EmokernelError(f"{place}: label {number} has no name among {len(names)} names")
        label = names[number]
    emotion = label.strip().lower()
    if not emotion:
        raise EmokernelError(f"{place}: an empty name of an emotion: name it")
    return None if emotion == NEUTRAL else emotion
