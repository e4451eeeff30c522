"""A model that reads its whole text for every token."""

from __future__ import annotations

import inspect

import pytest
from torch import nn


def forget(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on ``model`` keeps nothing of what it has read, whatever it is asked."""
    plain = model.forward

    def uncached(*args, **kwargs):
        output = plain(*args, **kwargs | {"use_cache": False})
        output.past_key_values = None
        return output

    uncached.__signature__ = inspect.signature(plain)  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", uncached)
