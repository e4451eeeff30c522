"""The door to the packages of the extra "lab", which what steers and keeps vectors does without."""

from __future__ import annotations

import importlib
from types import ModuleType

from emokernel.errors import EmokernelError

# What needs each package. scipy comes with scikit-learn.
_PURPOSES = {
    "accelerate": "reading a model from a GGUF file",
    "datasets": "reading datasets of Hugging Face",
    "gguf": "reading or writing GGUF files",
    "jinja2": "rendering a chat template or a report",
    "matplotlib": "drawing a picture",
    "scipy": "statistics of vectors and texts",
    "sklearn": "making, calibrating or judging vectors",
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
    return f"{_PURPOSES[package]} needs {package}: pip install 'emokernel[lab]'"
