"""The written answers that the vectors start from, and what the model is asked to answer itself."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

NEUTRAL = "neutral"


@cache
def _file() -> dict:
    return json.loads(Path(__file__).with_name("answers.json").read_text("utf-8"))


def digest() -> str:
    """sha256 of the file."""
    return hashlib.sha256(json.dumps(_file()).encode()).hexdigest()


def emotions() -> list[str]:
    """Those that have answers, in the order of the file."""
    return [name for name in _file()["answers"] if name != NEUTRAL]


def queries() -> list[str]:
    """What the written answers answer, forty."""
    return list(_file()["queries"])


def more_queries() -> list[str]:
    """What only the model answers, fifty more."""
    return list(_file()["more_queries"])


def written(emotion: str) -> dict[str, str]:
    """{query: the answer written for an emotion or for `NEUTRAL`}."""
    return dict(zip(queries(), _file()["answers"][emotion], strict=True))


def calibration_queries() -> list[str]:
    """What a calibration asks, forty; no vector is learned from them."""
    return list(_file()["calibration_queries"])
