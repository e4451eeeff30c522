"""A line of the corpus."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A line of text, the GoEmotions names of its emotions (maybe none), and where it is from."""

    text: str
    emotions: tuple[str, ...]
    source: str
