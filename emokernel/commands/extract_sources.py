"""What `emokernel extract` reads: queries or texts, and how an emotion is asked for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from emokernel.errors import EmokernelError
from emokernel.vectors.extraction.datasets import HUB

if TYPE_CHECKING:
    from emokernel.vectors.extraction.datasets import LabelledTexts
    from emokernel.vectors.extraction.prompts import Conditioning
    from emokernel.vectors.extraction.queries import Queries

EMBEDDED = "embedded"
EMBEDDED_TEMPLATES = "<|{emotion}|>{query}", "<|neutral|>{query}"


def queries_of(chosen: argparse.Namespace) -> Queries:
    """The queries that ``--queries`` names."""
    from emokernel.vectors.extraction.queries import Queries

    name = chosen.queries or ("openings" if chosen.model == EMBEDDED else "shipped")
    if name in ("shipped", "openings"):
        return getattr(Queries, name)()
    return Queries.from_labelled(labelled_of(chosen, name))


def labelled_of(chosen: argparse.Namespace, name: str) -> LabelledTexts:
    """Labelled texts of a file or a data set of the Hub."""
    from emokernel.vectors.extraction.datasets import labelled_dataset, parse_rows, read_labelled

    columns = {
        "text": chosen.text_column,
        "label": chosen.label_column,
        "label_names": chosen.label_names.split(",") if chosen.label_names else None,
    }
    if name.startswith(HUB):
        return labelled_dataset(name.removeprefix(HUB), split=chosen.split, **columns)
    return read_labelled(name, rows=parse_rows(chosen.rows) if chosen.rows else None, **columns)


def emotions_of(chosen: argparse.Namespace, known: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``--emotions``, or all that are ``known``."""
    if chosen.emotions not in (None, "all"):
        return tuple(name.strip() for name in chosen.emotions.split(","))
    if chosen.model == EMBEDDED and not known:
        from emokernel.demo.conditions import CONDITIONS

        return CONDITIONS[1:]
    return known


def conditioning_of(chosen: argparse.Namespace, tokenizer: Any) -> Conditioning:
    """How an emotion is asked for; EmokernelError for templates that are missing."""
    from emokernel.vectors.extraction.prompts import Conditioning

    templates = chosen.emotional_template, chosen.neutral_template
    if any(templates) and not all(templates):
        raise EmokernelError("--emotional-template and --neutral-template go together: give both")
    kind = chosen.conditioning
    if kind is None and chosen.model == EMBEDDED:
        kind = "prefix"
    if kind is None:
        kind = "prefix" if all(templates) else "chat"
    if kind == "chat":
        return Conditioning.chat(variants=[templates]) if all(templates) else Conditioning.chat()
    if all(templates):
        return Conditioning.prefix(*templates)
    if kind == "plain":
        return Conditioning.plain(openings=bool(chosen.texts) or chosen.queries == "openings")
    if chosen.model == EMBEDDED:
        return Conditioning.prefix(*EMBEDDED_TEMPLATES)
    raise EmokernelError(
        "--conditioning prefix needs --emotional-template and --neutral-template, such as"
        f" {EMBEDDED_TEMPLATES[0]!r} and {EMBEDDED_TEMPLATES[1]!r}"
    )


def texts_of(
    chosen: argparse.Namespace, source: LabelledTexts, tokenizer: Any
) -> tuple[dict[str, list[Any]], Any]:
    """(emotional, neutral) for `extract`: against neutral texts, or one text in two contexts."""
    from emokernel.vectors.extraction.datasets import contrasted

    if chosen.conditioning or chosen.emotional_template:
        return _in_two_contexts(chosen, source, tokenizer)
    classes = contrasted(source)
    neutral = classes.pop("neutral")
    return _chosen_of(chosen, classes), neutral


def _in_two_contexts(
    chosen: argparse.Namespace, source: LabelledTexts, tokenizer: Any
) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    conditioning = conditioning_of(chosen, tokenizer)
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
        {emotion: [(contexts[emotion], text) for text in of] for emotion, of in classes.items()},
        {emotion: [(neutral, text) for text in of] for emotion, of in classes.items()},
    )


def _chosen_of(chosen: argparse.Namespace, classes: dict[str, list[str]]) -> dict[str, list[str]]:
    """Texts of the chosen emotions, ``--per-emotion`` of each at most."""
    from emokernel.errors import UnknownEmotionError

    emotions = emotions_of(chosen, tuple(classes))
    for emotion in emotions:
        if emotion not in classes:
            raise UnknownEmotionError(emotion, classes)
    return {emotion: classes[emotion][: chosen.per_emotion] for emotion in emotions}
