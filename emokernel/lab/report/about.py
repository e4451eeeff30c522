"""What was evaluated: the facts of a run as titled lists, known ones first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emokernel.lab.report.figures import duration, plain, worded

_ORDER = ("model", "vectors", "coordinates", "settings", "machine", "versions")
_TITLES = {"topic": "Topic adherence of unsteered answers"}
_ELSEWHERE = ("judges", "notes")


def sections(about: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """{title: (name, value) of each fact}; single facts come last, together."""
    keys = [*_ORDER, *(key for key in about if key not in _ORDER)]
    lists, single = {}, []
    for key in keys:
        value = about.get(key)
        if value is None or key in _ELSEWHERE:
            continue
        if isinstance(value, Mapping):
            title = _TITLES.get(key, worded(key).capitalize())
            lists[title] = [(worded(k), plain(fact)) for k, fact in value.items()]
        elif key == "seconds" and isinstance(value, (int, float)):
            single.append(("time taken", duration(value)))
        elif key == "coordinates":
            single.insert(0, ("table of coordinates", plain(value)))
        else:
            single.append((worded(key), plain(value)))
    if single:
        lists["Run"] = single
    return lists


def notes(about: Mapping[str, Any]) -> list[str]:
    """What a reader has to know beside the figures."""
    return [plain(note) for note in about.get("notes", ())]


def name(about: Mapping[str, Any]) -> str:
    """What the model is called."""
    model = about.get("model")
    name = model.get("name") if isinstance(model, Mapping) else model
    return plain(name or "a language model")
