"""What a model is asked: the package's own questions and queries, or those of a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.lab.extract.labelled_texts import normalised


@cache
def shipped(name: str) -> dict[str, Any]:
    """The package's own texts of this name.

    "questions": lists of "questions" (10) and "queries" (50), and "notes" on where they are from.
    "wordings": {kind: {name of a template: its text}}, and their "source".
    """
    text = (files("emokernel.lab.evaluate.prompting") / f"{name}.json").read_text("utf-8")
    return json.loads(text)


def read_lines(path: str | PathLike[str]) -> tuple[str, ...]:
    """The texts of a file in UTF-8: a JSON list if it is called .json, else one on each line.

    Empty lines are skipped. Raises FileNotFoundError, or EmokernelError naming the file if it is
    not as described, holds no text, or holds one twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of questions or openings: {path}")
    try:
        content = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EmokernelError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    if path.suffix.lower() != ".json":
        return checked([line for line in map(str.strip, content.split("\n")) if line], str(path))
    try:
        lines = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise EmokernelError(f"{path} is no JSON: {error}") from error
    if not isinstance(lines, list):
        raise EmokernelError(f'{path} holds no JSON list: write ["a text", "another"]')
    return checked([line.strip() if isinstance(line, str) else line for line in lines], str(path))


def checked(texts: Sequence[str], source: str) -> tuple[str, ...]:
    """The texts, if there are any, none is empty and none is there twice but for case and spacing.

    EmokernelError otherwise, which names ``source``.
    """
    if isinstance(texts, str) or not all(isinstance(one, str) and one.strip() for one in texts):
        raise EmokernelError(f"{source}: a list of texts is needed, none of them empty")
    if not texts:
        raise EmokernelError(f"{source}: there is no text: give at least one")
    seen: set[str] = set()
    for text in texts:
        if normalised(text) in seen:
            raise EmokernelError(f"{source}: {text!r} occurs more than once; keep one")
        seen.add(normalised(text))
    return tuple(texts)
