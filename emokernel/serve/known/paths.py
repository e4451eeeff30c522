"""What files say of themselves, without where on this machine anything lies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# A text that is a path: absolute, of a home, relative by dots, of a drive, or file:.
_WHOLE = re.compile(r"\s*(?:file:|~[\w.-]*[\\/]|\.{1,2}[\\/]|[A-Za-z]:[\\/]|\\\\|/)")
# A path within a text, or an address of the web, which is none.
_WITHIN = re.compile(
    r"(?P<web>\bhttps?://\S+)"
    r"|(?:file:[\\/]*|(?<![\w:/\\.~-])"
    r"(?:~[\w.-]*[\\/]|\.{1,2}[\\/]|[A-Za-z]:[\\/]|\\\\|/(?=[\w.~-])))"
    r"[^\s,;\"'()<>|\[\]{}]*"
)
# Three parts and more are no OWNER/NAME.
_LONG = re.compile(r"[^\s:/\\]+(?:[\\/][^\s:/\\]+){2,}[\\/]?")


def without_paths(told: Any) -> Any:
    """JSON data as it is, but for paths in its texts and keys, of which the last part is left."""
    if isinstance(told, str):
        if _WHOLE.match(told) or _LONG.fullmatch(told):
            return _last(told)
        return _WITHIN.sub(lambda found: found["web"] or _kept(found[0]), told)
    if isinstance(told, Mapping):
        return {without_paths(key): without_paths(value) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return [without_paths(each) for each in told]
    return told


def _kept(path: str) -> str:
    """The last part of a path within a text, with the mark that ends a sentence behind it."""
    bare = path.rstrip(".:!?")
    return _last(bare) + path[len(bare) :]


def _last(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/ "))[-1].removeprefix("file:") or "…"
