"""`emokernel info`: which backend is live here, why the others are not, which weights are kept."""

from __future__ import annotations

import argparse
import importlib

import torch

from emokernel import __version__
from emokernel.errors import BackendError
from emokernel.ops import BACKENDS, available, select
from emokernel.weights import cache_folder, cached


def add(_: argparse.ArgumentParser) -> None:
    """There are no arguments."""


def run(_: argparse.Namespace) -> None:
    """Print it."""
    print(f"emokernel {__version__}, torch {torch.__version__}")
    for device in ["cpu"] + (["cuda"] if torch.cuda.is_available() else []):
        try:
            live = select(device).name
        except BackendError:
            live = None
        for name, reason in available(device).items():
            state = "live" if name == live else "available" if reason is None else reason
            print(f"  {device}: backend {name:<10} {state}")
    for name in BACKENDS[:-1]:
        for key, value in importlib.import_module(f"emokernel.ops.{name}").describe().items():
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"  {name} backend, {key.replace('_', ' ')}: {shown}")
    print(f"  weights in {cache_folder()}:")
    for name, folder in cached().items():
        print(f"    {name:<10} {folder.name if folder else 'not there: fetched when it is needed'}")
