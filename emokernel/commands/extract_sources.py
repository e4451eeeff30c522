"""What `emokernel extract` reads: queries or texts, and how an emotion is asked for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from emokernel.demo.named import named
from emokernel.errors import EmokernelError, UnknownEmotionError
from emokernel.lab.extract.datasets import HUB, read_labelled
from emokernel.lab.extract.labelled_texts import SEVERAL, LabelledTexts, contrasted
from emokernel.lab.extract.prompts import Conditioning
from emokernel.lab.extract.queries import Queries, pairs
from emokernel.lab.extract.text_files import parse_rows


def queries_of(chosen: argparse.Namespace) -> Queries:
    """The queries that ``--queries`` names."""
    name = chosen.queries or named(chosen.model).queries
    if name in ("shipped", "openings"):
        _refuse(
            chosen, ("text_column", "label_column", "label_names", "rows", "split"),
            f'are of a file or a data set, and "{name}" is none: leave them out',
        )  # fmt: skip
        return getattr(Queries, name)()
    texts = labelled_of(chosen, name)
    return Queries(texts.rows, texts.provenance)


def labelled_of(chosen: argparse.Namespace, name: str) -> LabelledTexts:
    """Labelled texts of a file or a data set of the Hub."""
    columns = {
        "text": chosen.text_column,
        "label": chosen.label_column,
        "label_names": _names_of(chosen.label_names),
    }
    if name.startswith(HUB):
        _refuse(chosen, ("rows",), "are of a flat list in a file: leave them out for a data set")
    else:
        _refuse(chosen, ("split",), f"is of a data set ({HUB}REPOSITORY): leave it out for a file")
    rows = parse_rows(chosen.rows) if chosen.rows else None
    return read_labelled(name, rows=rows, split=chosen.split or "train", **columns)


def _names_of(given: str | None) -> list[str] | None:
    """``--label-names``: joy,anger,... or a file with one on each line."""
    if given is None:
        return None
    if os.path.isfile(given):  # which takes a list that is too long for the name of a file
        return Path(given).read_text("utf-8").splitlines()
    return given.split(",")


def left_out(texts: LabelledTexts) -> Iterator[str]:
    """What of a source was not taken, in words."""
    if several := texts.provenance.get(SEVERAL):
        yield f"left out: {several} rows without exactly one label"
    if dropped := sum(texts.provenance.get("duplicates dropped", {}).values()):
        yield f"left out: {dropped} texts that stand in a class twice"


def _refuse(chosen: argparse.Namespace, options: Iterable[str], why: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name in options if getattr(chosen, name) is not None]
    if given:
        raise EmokernelError(f"{', '.join(given)} {why}")


def emotions_of(chosen: argparse.Namespace, known: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``--emotions``, or all that are ``known``; EmokernelError if there are none."""
    if chosen.emotions not in (None, "all"):
        names = tuple(dict.fromkeys(name.strip() for name in chosen.emotions.split(",")))
        if not all(names):
            raise EmokernelError(f"--emotions needs names such as joy,anger: {chosen.emotions!r}")
        return names
    known = known or named(chosen.model).emotions
    if not known:
        raise EmokernelError("no emotions given, and the queries name none: give --emotions")
    return known


def asked_of(chosen: argparse.Namespace, queries: Queries) -> dict[str, list[str]]:
    """{emotion: its queries}; EmokernelError for an emotion that there are none for."""
    return {
        emotion: [each.text for each in pairs(queries, emotion, chosen.per_emotion, chosen.seed)]
        for emotion in emotions_of(chosen, queries.emotions)
    }


def conditioning_of(chosen: argparse.Namespace) -> Conditioning:
    """How an emotion is asked for; EmokernelError for templates that are missing."""
    templates = chosen.emotional_template, chosen.neutral_template
    if any(templates) and not all(templates):
        raise EmokernelError("--emotional-template and --neutral-template go together: give both")
    own = named(chosen.model).templates
    kind = chosen.conditioning or ("prefix" if own or all(templates) else "chat")
    if kind == "chat":
        return Conditioning.chat(variants=[templates]) if all(templates) else Conditioning.chat()
    if all(templates):
        return Conditioning.prefix(*templates)
    if kind == "plain":
        return Conditioning.plain(openings=bool(chosen.texts) or chosen.queries == "openings")
    if own:
        return Conditioning.prefix(*own)
    raise EmokernelError(
        "--conditioning prefix needs --emotional-template and --neutral-template, such as"
        " '<|{emotion}|>{query}' and '<|neutral|>{query}'"
    )


def texts_of(
    chosen: argparse.Namespace, source: LabelledTexts, tokenizer: Any
) -> tuple[dict[str, list], list | dict[str, list]]:
    """(emotional, neutral) for `extract`: against neutral texts, or one text in two contexts."""
    if chosen.conditioning or chosen.emotional_template or chosen.neutral_template:
        return _in_two_contexts(chosen, source, tokenizer)
    classes = contrasted(source)
    neutral = classes.pop("neutral")
    return _chosen_of(chosen, classes), neutral


def _in_two_contexts(
    chosen: argparse.Namespace, source: LabelledTexts, tokenizer: Any
) -> tuple[dict[str, list], dict[str, list]]:
    conditioning = conditioning_of(chosen)
    if not conditioning.adds_special_tokens:
        raise EmokernelError("given texts stand in no chat: use --conditioning plain or prefix")
    classes: dict[str, list[str]] = {}
    for emotion, text in source.rows:
        if emotion is not None:
            classes.setdefault(emotion, []).append(text)
    classes = _chosen_of(chosen, classes)
    neutral = conditioning.neutral("", tokenizer)
    contexts = {emotion: conditioning.emotional("", emotion, tokenizer) for emotion in classes}
    return (
        {name: [(contexts[name], text) for text in texts] for name, texts in classes.items()},
        {name: [(neutral, text) for text in texts] for name, texts in classes.items()},
    )


def _chosen_of(chosen: argparse.Namespace, classes: dict[str, list[str]]) -> dict[str, list[str]]:
    """Texts of the chosen emotions, ``--per-emotion`` of each at most."""
    emotions = emotions_of(chosen, tuple(classes))
    for emotion in emotions:
        if emotion not in classes:
            raise UnknownEmotionError(emotion, classes)
    return {emotion: classes[emotion][: chosen.per_emotion] for emotion in emotions}
