"""What is public: the names that the documentation gives, and the commands with their options."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emokernel.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
# Keys of GGUF files.
_KEYS = {"emokernel.names", "emokernel.layer.0"}
_MODULE = r"emokernel(?:\.\w+)*\b"
_IMPORT = re.compile(
    rf"^ *((?:from +{_MODULE} +import +(?:\([^)]*\)|[^\n(]+))|import +{_MODULE})", re.M
)
_DOTTED = re.compile(r"(?<![\w./-])emokernel(?:\.\w+)+")


def documents() -> list[Path]:
    """README.md and the pages of docs/, where the source has them."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def imports(text: str) -> set[tuple[str, str]]:
    """(module, name) of what a text imports of emokernel; of whole modules the name is ""."""
    names: set[tuple[str, str]] = set()
    for match in _IMPORT.finditer(text):
        (statement,) = ast.parse(match[1]).body
        if isinstance(statement, ast.ImportFrom):
            names |= {(statement.module, alias.name) for alias in statement.names}
        else:
            names |= {(alias.name, "") for alias in statement.names}
    return names


def references(text: str) -> set[str]:
    """What a text names by a dotted path; files and the keys in them are none of it."""
    ends = (".md", ".jsonl", ".safetensors", ".gguf")
    return {name for name in _DOTTED.findall(text) if name not in _KEYS and not name.endswith(ends)}


class _Parser(Exception):
    """Carries the parser of the command line out of it."""


def command_line(command: str) -> argparse.ArgumentParser:
    """The parser of ``emokernel``, with the arguments of that command."""

    def stop(self: argparse.ArgumentParser, *_: object) -> None:
        raise _Parser(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        with pytest.raises(_Parser) as stopped:
            main([command])
    return stopped.value.args[0]


def commands() -> dict[str, dict[str, Any]]:
    """{command: {options or the name of a positional: what it takes}}, as JSON knows it."""
    found = {}
    for name in COMMANDS:
        (subparsers,) = (
            action for action in command_line(name)._actions if isinstance(action.choices, dict)
        )
        found[name] = dict(_arguments(subparsers.choices[name]))
    return found


def _arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, dict[str, Any]]]:
    for action in parser._actions:
        name = " ".join(action.option_strings) or action.dest
        takes = {
            "choices": None if action.choices is None else list(map(str, action.choices)),
            "default": _plain(action.default),
            "nargs": action.nargs,
            "required": action.required,
        }
        yield name, takes


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
