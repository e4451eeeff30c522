"""One sentence on what is wrong with a body, from all that pydantic says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emokernel.serve.front.errors import BodyError

# Tags by which the schemas tell the members of a union apart; they are no part of a body.
TAG = "@"
# The error of a value that is none of the members; its message says what would be one.
NO_KIND = "of_no_kind"

_Error = Mapping[str, Any]

_KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "mapping_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_BOUNDS = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "string_too_long": "at most {max_length} characters long",
    "string_too_short": "at least {min_length} characters long",
    "string_pattern_mismatch": "of the form {pattern}",
}


def invalid(errors: Sequence[_Error]) -> BodyError:
    """The error that says what is wrong first; ``errors``: those of pydantic, one or more.

    Where a value may be of several kinds, what is said is of the one that it comes nearest to.
    """
    error = max(errors, key=_weight)
    where = _spelled(_path(error))
    message = _sentence(error, where or "the body")
    return BodyError(message, where or None)


def _weight(error: _Error) -> tuple[bool, bool, int]:
    path, kind = _path(error), error["type"]
    return kind == "missing" and len(path) == 1, kind == "extra_forbidden", len(path)


def _path(error: _Error) -> list[str | int]:
    """Where it is within the body, without what pydantic adds."""
    place = [each for each in error["loc"] if not str(each).startswith(TAG)]
    return place[1:] if place[:1] in (["body"], ["query"], ["path"]) else place


def _spelled(path: Sequence[str | int]) -> str:
    """``messages[0].content``."""
    spelled = ""
    for each in path:
        spelled += f"[{each}]" if isinstance(each, int) else f".{_clipped(each)}"
    return spelled.removeprefix(".")


def _sentence(error: _Error, where: str) -> str:
    kind, context = error["type"], error.get("ctx") or {}
    got = _got(error.get("input"))
    if kind == "missing":
        return f"the body has no {where!r}: give it"
    if kind == "extra_forbidden":
        return f"{where!r} is no field that this server knows: leave it out"
    if kind in _KINDS:
        return f"{where} must be {_KINDS[kind]}, got {got}"
    if kind in _BOUNDS:
        plain = {name: _plain(value) for name, value in context.items()}
        return f"{where} must be {_BOUNDS[kind].format(**plain)}, got {got}"
    if kind in ("literal_error", "enum"):
        return f"{where} can only be {context['expected']} here, got {got}: change it"
    if kind == "none_required":
        return f"{where!r} cannot be carried out here: leave it out"
    if kind in ("too_long", "too_short"):
        return _counted(where, kind, context)
    if kind == NO_KIND:
        return f"{where} {error['msg']}, got {got}"
    if kind == "value_error":
        return f"{where}: {context.get('error', error['msg'])}"
    return f"{where} cannot be served: {_clipped(error['msg'])}"


def _plain(bound: Any) -> Any:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _counted(where: str, kind: str, context: Mapping[str, Any]) -> str:
    if kind == "too_short":
        return f"{where} needs at least {context['min_length']}, got {context['actual_length']}"
    if not context["max_length"]:
        return f"{where!r} cannot be carried out here: leave it out, or empty"
    return f"{where} has at most {context['max_length']}, got {context['actual_length']}: send less"


def _got(given: Any) -> str:
    """What was given; a long text or a list is named, not repeated."""
    if given is None or isinstance(given, bool):
        return {None: "null", True: "true", False: "false"}[given]
    if isinstance(given, int):
        return str(given) if given.bit_length() < 100 else "a number of many digits"
    if isinstance(given, float):
        return repr(given)
    if isinstance(given, str):
        return repr(given) if len(given) <= 40 else f"a text of {len(given)} characters"
    return {dict: "an object", list: "a list"}.get(type(given), "something else")


def _clipped(text: Any) -> str:
    return text if len(text := str(text)) <= 100 else f"{text[:100]}…"
