"""Figures as people read them: rounded, with a true minus sign, a dash for what is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from emokernel.lab.evaluate.results import Interval

MISSING = "–"


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """``digits`` decimals; "–" for None and NaN, "∞" for infinity."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if not float(text):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(value: Interval | None, digits: int = 2, *, signed: bool = False) -> str:
    """The mean and its interval, "0.52 [0.48, 0.56]"; the mean alone if that is all there is."""
    if value is None or math.isnan(value.mean):
        return MISSING
    mean, low, high = (
        number(each, digits, signed=signed) for each in (value.mean, value.low, value.high)
    )
    return mean if MISSING in (low, high) else f"{mean} [{low}, {high}]"


def percent(share: float | None, digits: int = 0) -> str:
    """A share 0..1 in per cent."""
    if share is None or not math.isfinite(share):
        return MISSING
    return f"{number(100 * share, digits)}\N{NO-BREAK SPACE}%"


def times(ratio: float | None) -> str:
    """A ratio to the unsteered texts, "1.32×"."""
    text = number(ratio)
    return text if text == MISSING else f"{text}×"


def probability(p: float | None) -> str:
    """A p value: three decimals, or "< 0.001"."""
    if p is None or math.isnan(p):
        return MISSING
    return "< 0.001" if p < 0.001 else number(p, 3)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, the two largest of them."""
    if not math.isfinite(seconds):
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{number(seconds, 1)} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plain(value: Any) -> str:
    """Any fact as one line of text: lists with commas, mappings as "key: value"."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Real):
        return f"{value:.4g}".replace("-", "−") if math.isfinite(value) else number(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{worded(key)}: {plain(fact)}" for key, fact in value.items()) or MISSING
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(plain, value)) or MISSING
    return str(value)


def worded(key: Any) -> str:
    """The key of a fact as words."""
    return str(key).replace("_", " ")


def counted(count: int, singular: str) -> str:
    """A number of things: "1 dose", "5 doses"."""
    return f"{count:,} {singular}{'' if count == 1 else 's'}"
