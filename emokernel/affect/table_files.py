"""JSON files of label coordinates: what is in them, before it is checked point by point.

A file is ``{label: entry, ...}``, or that under "labels" beside "name", "source" and "notes". An
entry is ``[valence, arousal]``, ``{"point": [valence, arousal]}`` or ``{"angle": degrees}`` (on the
unit circle); beside "point" and "angle" further keys are kept as facts of the label. Two more
entries serve the built-in tables:

- ``{"term": other}`` lies where the entry ``other`` of the same file does.
- ``{"ratings": [valence, arousal]}``, on any scale, together with ``"rated": {"mean": [v, a],
  "sd": [v, a]}`` beside "labels", the statistics of all rated words. Each rating becomes its
  z-score; all of them are divided by one factor, which puts the label farthest from the centre on
  the unit circle. (0, 0) is thus the average word, and one unit is the same number of standard
  deviations of valence as of arousal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError, UnknownEmotionError


def read_table(path: Path) -> dict[str, Any]:
    """{"name", "source", "notes", "entries"} of a file; "entries" maps labels to entries.

    FileNotFoundError, or EmokernelError naming the file and the fault.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file of label coordinates: {path}")
    try:
        content = json.loads(path.read_text("utf-8"), object_pairs_hook=_without_duplicates)
        if not isinstance(content, dict):
            raise EmokernelError("it holds no JSON object; write {label: [valence, arousal], ...}")
        whole = content if isinstance(content.get("labels"), dict) else {"labels": content}
        name, source = whole.get("name", path.stem), whole.get("source", str(path))
        notes = whole.get("notes", [])
        if not isinstance(notes, list) or not all(
            isinstance(x, str) for x in [name, source, *notes]
        ):
            raise EmokernelError("name and source must be texts, and notes a list of texts")
        return {
            "name": name,
            "source": source,
            "notes": tuple(notes),
            "entries": _resolved(whole["labels"], whole.get("rated")),
        }
    except EmokernelError as error:
        raise EmokernelError(f"{path}: {error}") from error
    except RecursionError:
        raise EmokernelError(f"{path} is nested too deeply for a table of coordinates") from None
    except ValueError as error:  # no UTF-8, no JSON, or a number of thousands of digits
        raise EmokernelError(f"{path} is no JSON in UTF-8: {error}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise EmokernelError(f"{', '.join(map(repr, twice))} occurs more than once; keep one each")
    return dict(pairs)


def _resolved(labels: Mapping[str, Any], rated: object) -> dict[str, Any]:
    """The labels with terms and ratings replaced by angles and coordinates."""
    points = _of_ratings(labels, rated)
    entries = {}
    for label, entry in labels.items():
        if label in points:
            entry = entry | {"point": points[label]}
        elif isinstance(entry, dict) and "term" in entry:
            term = labels.get(entry["term"]) if isinstance(entry["term"], str) else None
            if term is None:
                raise UnknownEmotionError(entry["term"], labels)
            if not isinstance(term, dict) or "angle" not in term:
                raise EmokernelError(f"{label!r}: the term {entry['term']!r} has no angle")
            entry = term | entry
        entries[label] = entry
    return entries


def _of_ratings(labels: Mapping[str, Any], rated: object) -> dict[str, tuple[float, float]]:
    """{label: (valence, arousal)} of all labels that are given by ratings."""
    given = {
        label: entry["ratings"]
        for label, entry in labels.items()
        if isinstance(entry, dict) and "ratings" in entry
    }
    if not given:
        return {}
    try:
        means, deviations = (_pair(rated[key]) for key in ("mean", "sd"))
        scores = {
            label: tuple(
                (rating - mean) / deviation
                for rating, mean, deviation in zip(_pair(ratings), means, deviations, strict=True)
            )
            for label, ratings in given.items()
        }
        farthest = max(math.hypot(*score) for score in scores.values())
        return {label: (v / farthest, a / farthest) for label, (v, a) in scores.items()}
    except (TypeError, KeyError, ValueError, ArithmeticError) as error:
        raise EmokernelError(
            'ratings must be pairs of numbers, beside {"rated": {"mean": [v, a], "sd": [v, a]}}'
            f" ({type(error).__name__}: {error})"
        ) from error


def _pair(values: Any) -> tuple[float, float]:
    first, second = map(float, values)
    return first, second
