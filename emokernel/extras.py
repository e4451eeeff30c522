"""The door to packages that only a part of emokernel needs, installed by extras of its own."""

from __future__ import annotations

import importlib
from types import ModuleType

from emokernel.errors import EmokernelError

# What needs each package, and the extra of pyproject.toml that brings it.
_EXTRAS = {
    "datasets": ("reading datasets of Hugging Face", "datasets"),
    "gguf": ("reading or writing GGUF files", "gguf"),
    "matplotlib": ("drawing a picture", "lab"),
    "scipy": ("statistics of vectors and texts", "lab"),
    "sklearn": ("making, calibrating or judging vectors", "lab"),
}


def need(module: str) -> ModuleType:
    """A module of an optional package, such as "sklearn.linear_model".

    EmokernelError that says what to install if the package is not there.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise  # the package is there and lacks something itself
        raise EmokernelError(missing(package)) from error


def missing(package: str) -> str:
    """What is said where an optional package is not installed."""
    purpose, extra = _EXTRAS[package]
    return f"{purpose} needs {package}: pip install 'emokernel[{extra}]'"
