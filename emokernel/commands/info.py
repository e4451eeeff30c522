"""`emokernel info`: which backend is live here, why the others are not, which weights are kept.

With ``--vllm``: whether a vLLM server that is started here would steer.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from typing import Any

import torch

from emokernel import __version__
from emokernel.errors import BackendError
from emokernel.ops import BACKENDS, available, select
from emokernel.weights import cache_folder, cached


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vllm", nargs="?", const={}, type=_config, metavar="JSON",
        help="whether vLLM would steer here: exit status 1 if not. JSON: what its"
        " --additional-config will be, where the environment does not say it",
    )  # fmt: skip


def _config(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from error
    if not isinstance(given, dict):
        raise argparse.ArgumentTypeError("no JSON object")
    return given


def run(chosen: argparse.Namespace) -> int:
    """Print it."""
    if chosen.vllm is not None:
        return _vllm(chosen.vllm)
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
    return 0


def _vllm(additional_config: dict[str, Any]) -> int:
    from emokernel.serve.vllm.readiness import checks

    wrong = 0
    for what, well, told in checks(additional_config, os.environ):
        print(f"  {'ok ' if well else 'NOT'} {what}: {told}")
        wrong += not well
    print("vLLM would steer here" if not wrong else "vLLM would not steer here")
    return 1 if wrong else 0
