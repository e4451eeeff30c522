"""`emokernel serve`: serve a model over HTTP, with an emotion for each request."""

from __future__ import annotations

import argparse
import atexit
import inspect
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from emokernel.bench.memory import available_bytes
from emokernel.commands import models
from emokernel.commands.arguments import MODEL, add_vectors, positive
from emokernel.demo.models import Asked
from emokernel.demo.named import MAKE_VECTORS, NAMED, named
from emokernel.errors import EmokernelError, telling
from emokernel.vectors import EmotionVectors
from emokernel.weights import gguf

_CACHE = 4 * 2**30  # bytes for continuous batching on a CPU, at most

_HOW = """\
A request is steered if its body has "emotion": "NAME" (and perhaps "strength": 0.5); GET
/v1/emotions lists the names, GET /v1/models the model.\
"""

# What this command does not know itself goes to `transformers serve`.
PASSES_ON = True


def add(parser: argparse.ArgumentParser) -> None:
    parser.usage = "emokernel serve MODEL --vectors FILE [any option of `transformers serve`]"
    parser.description = (
        "A server with an OpenAI compatible API whose requests may carry an emotion. MODEL is"
        f" {MODEL}. `transformers serve --help` lists its options, --continuous-batching, --host"
        " and --port among them."
    )
    parser.allow_abbrev = False
    add_vectors(parser)
    parser.add_argument("--slots", type=positive, default=256, help="different mixes at once (256)")


def run(chosen: argparse.Namespace) -> None:
    """Say what requests may ask for, and serve until the process is stopped."""
    server = served(chosen.vectors, chosen.slots, chosen.passed_on)
    print(f"{server.steering().report()}\n{_HOW}", flush=True)
    server.run()


def served(vectors: Path | None, slots: int, passed_on: list[str]) -> Any:
    """The server, ready to run; ``passed_on``: MODEL and the options of `transformers serve`."""
    import typer
    from transformers.cli.serve import Serve
    from transformers.utils.import_utils import is_serve_available

    if not is_serve_available():
        raise EmokernelError(
            "serving needs fastapi, uvicorn and openai: pip install 'emokernel[serve]'"
        )
    options: dict[str, Any] = {}

    def keep(**given: Any) -> None:
        options.update(given)

    signature = inspect.signature(Serve)
    keep.__signature__ = signature
    keep.__annotations__ = {
        name: parameter.annotation for name, parameter in signature.parameters.items()
    }
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    command.command()(keep)
    usage_error = typer.BadParameter.__base__  # click's, wherever this release of typer keeps it
    try:
        command(passed_on, prog_name="emokernel serve", standalone_mode=False)
    except usage_error as error:
        message = error.format_message()
        raise EmokernelError(f"{message} `transformers serve --help` lists the options") from error
    return _server(vectors, slots, options)


def _server(vectors: Path | None, slots: int, options: dict[str, Any]) -> Any:
    from emokernel.serve.server import SteeredServe

    name = options.pop("force_model")
    del options["non_blocking"]
    if name is None:
        raise EmokernelError("name the model to serve: emokernel serve MODEL --vectors FILE")
    vectors = vectors or named(name).vectors
    if vectors is None:
        raise EmokernelError(
            f"say which emotions the model has: --vectors FILE; {MAKE_VECTORS.format(name)}"
        )
    loaded = EmotionVectors.load(vectors)
    _check_model(name, loaded, vectors)
    models.check_can_steer(options.get("device"))
    _bound_cache(options)
    with telling(f"serve {name}"):
        return SteeredServe(_folder(name), loaded, slots, name, **options)


def _folder(name: str) -> str:
    """What the server loads: the folder of what is here, anything else by its ``name``.

    It knows folders alone, so a GGUF file is converted into one that goes when the process ends.
    """
    if name not in NAMED and not Path(name).exists():
        return name
    place = Path(models.resolved(Asked(name)))
    if not gguf.is_gguf(place):
        return str(place)
    folder = tempfile.mkdtemp(prefix="emokernel-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    gguf.save(place, Path(folder), progress=True)
    return folder


def _bound_cache(options: dict[str, Any]) -> None:
    """On a CPU, a cache for continuous batching that leaves a laptop its memory.

    transformers takes 60 % of all memory there is, which it fills when the first request comes.
    """
    device = options["device"]
    on_cpu = device == "cpu" or (device == "auto" and not torch.accelerator.is_available())
    said = options["cb_num_blocks"] or options["cb_max_memory_percent"]
    if not options["continuous_batching"] or said or not on_cpu:
        return
    import psutil  # which transformers asks as well

    memory = psutil.virtual_memory()
    free = min(available_bytes(torch.device("cpu")), memory.available)
    size = min(_CACHE, free // 4)
    options["cb_max_memory_percent"] = size / memory.total
    print(
        f"continuous batching in {size / 2**30:.1f} GiB at most (--cb-max-memory-percent is the"
        " share of all memory, --cb-num-blocks the number of blocks)"
    )


def _check_model(name: str, vectors: EmotionVectors, source: Path) -> None:
    """EmokernelError for what is no model, or not that of the vectors, before it is loaded.

    ``name`` is the server's: OWNER/NAME@REVISION too. What it means by a colon it says itself.
    """
    repository, at, revision = name.rpartition("@")
    if Path(name).exists() or not at:
        repository, revision = name, None
    if Path(repository).exists() or ":" not in repository:
        config = models.load_config(Asked(repository, revision))
        models.check_fits(vectors, config, source)
