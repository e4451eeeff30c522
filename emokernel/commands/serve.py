"""`emokernel serve`: serve a model over HTTP, with an emotion for each request."""

from __future__ import annotations

import argparse
import atexit
import inspect
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch

from emokernel.bench.memory import available_bytes
from emokernel.commands import models
from emokernel.commands.arguments import MODEL, add_vectors, positive
from emokernel.demo.models import Asked
from emokernel.demo.named import MAKE_VECTORS, NAMED, SHOWN, named
from emokernel.errors import EmokernelError, telling
from emokernel.vectors import EmotionVectors
from emokernel.weights import gguf

_CACHE = 4 * 2**30  # bytes for continuous batching on a CPU, at most
_PAGE = 256  # tokens of a block of that cache

_NEEDS = "serving needs {}: pip install 'emokernel[serve]'"

# What this command does not know itself goes to `transformers serve`.
PASSES_ON = True


def add(parser: argparse.ArgumentParser) -> None:
    parser.usage = "emokernel serve [MODEL] [--vectors FILE] [any option of `transformers serve`]"
    parser.description = (
        f"A server with an OpenAI compatible API whose requests may carry an emotion. MODEL is"
        f" {MODEL}; {SHOWN} unless given. `transformers serve --help` lists its options, --host,"
        " --port and --device among them. Requests are batched continuously where the model can,"
        " unless --no-continuous-batching."
    )
    parser.allow_abbrev = False
    add_vectors(parser)
    number = parser.add_argument
    number("--slots", type=positive, default=256, help="different mixes at once (256)")
    number("--running", type=positive, help="texts that are generated at a time (32)")
    number("--queue", type=positive, help="requests that wait at most; then 429 (256)")
    number("--max-body", type=positive, metavar="BYTES", help="of a request (4 MiB)")
    number("--max-tokens", type=positive, help="of an answer, at most (4096)")
    number("--drain", type=positive, metavar="SECONDS", help="to answer what runs at SIGTERM (30)")
    guard = parser.add_argument_group("who may ask")
    guard.add_argument(
        "--api-key", action="append", metavar="KEY",
        help="that each request has to give; repeatable (EMOKERNEL_API_KEY)",
    )  # fmt: skip
    guard.add_argument(
        "--no-api-key", action="store_true", help="let anybody who reaches it use the server"
    )
    guard.add_argument(
        "--allow-host", action="append", metavar="NAME",
        help="that clients may give in the Host header, beside those of loopback; repeatable",
    )  # fmt: skip
    guard.add_argument(
        "--cors", action="append", metavar="ORIGIN", help="whose pages may ask; repeatable; '*'"
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")


def run(chosen: argparse.Namespace) -> None:
    """Say what requests may ask for, and serve until the process is stopped."""
    options = parsed(chosen.passed_on)
    server, listening = served(chosen, options)
    from emokernel.serve.server import address_of, opened

    url = address_of(listening)
    print(server.steering().report(), flush=True)

    def begun() -> None:
        print(f"serving {server.service.name} on {url}", flush=True)
        if chosen.open:
            opened(url)

    server.run(listening, begun)


def parsed(passed_on: list[str]) -> dict[str, Any]:
    """The options of `transformers serve` in ``passed_on``, and its defaults; EmokernelError."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import typer
        from transformers.cli.serve import Serve
        from transformers.utils.import_utils import is_serve_available
    except ModuleNotFoundError as error:
        raise EmokernelError(_NEEDS.format(error.name)) from error
    if not is_serve_available():
        raise EmokernelError(_NEEDS.format("fastapi, uvicorn and openai"))
    options: dict[str, Any] = {}

    def keep(**given: Any) -> None:
        options.update(given)

    signature = inspect.signature(Serve)
    parameters = dict(signature.parameters)
    batching = Annotated[bool | None, typer.Option()]
    parameters["continuous_batching"] = parameters["continuous_batching"].replace(
        default=None, annotation=batching
    )
    parameters["host"] = parameters["host"].replace(default="127.0.0.1")
    keep.__signature__ = signature.replace(parameters=list(parameters.values()))
    keep.__annotations__ = {name: each.annotation for name, each in parameters.items()}
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    command.command()(keep)
    usage_error = typer.BadParameter.__base__  # click's, wherever this release of typer keeps it
    try:
        command(passed_on, prog_name="emokernel serve", standalone_mode=False)
    except usage_error as error:
        message = error.format_message()
        raise EmokernelError(f"{message} `transformers serve --help` lists the options") from error
    if not options:  # --help was asked for, and given
        sys.exit(0)
    return options


def served(chosen: argparse.Namespace, options: dict[str, Any]) -> tuple[Any, Any]:
    """(The server, ready to run; the socket it is to listen on, bound already).

    EmokernelError for what cannot be served, or not so.
    """
    from emokernel.serve.front.exposure import KEY_VARIABLE, Settings, check_exposure
    from emokernel.serve.front.limits import Limits
    from emokernel.serve.server import SteeredServe, listen

    keys = tuple(chosen.api_key or filter(None, [os.environ.get(KEY_VARIABLE)]))
    if options.pop("enable_cors"):
        chosen.cors = [*(chosen.cors or ()), "*"]
    said = {
        "running": chosen.running, "waiting": chosen.queue, "body_bytes": chosen.max_body,
        "max_tokens": chosen.max_tokens, "drain_s": chosen.drain,
    }  # fmt: skip
    limits = Limits(**{name: value for name, value in said.items() if value is not None})
    settings = Settings(
        options["host"], tuple(chosen.allow_host or ()), tuple(chosen.cors or ()), keys, limits
    )
    check_exposure(options["host"], keys, chosen.no_api_key)
    name = options.pop("force_model") or SHOWN
    for own in ("non_blocking", "model_timeout", "decision_config"):
        options.pop(own, None)
    vectors = chosen.vectors or named(name).vectors
    if vectors is None:
        raise EmokernelError(
            f"say which emotions the model has: --vectors FILE; {MAKE_VECTORS.format(name)}"
        )
    loaded = EmotionVectors.load(vectors)
    config = _checked_config(name, loaded, vectors)
    models.check_can_steer(options.get("device"))
    if options["dtype"] == "auto":
        options["dtype"] = named(name).dtype
    listening = listen(options["host"], options["port"])
    _bound_cache(options, config, limits.running)
    with telling(f"serve {name}"):
        server = SteeredServe(
            _folder(name), loaded, chosen.slots, name, named(name).judge, limits, settings,
            **options,
        )  # fmt: skip
    return server, listening


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


def _bound_cache(options: dict[str, Any], config: Any, running: int) -> None:
    """On a CPU, a cache for continuous batching that leaves a laptop its memory.

    As much as ``running`` texts can fill, within a quarter of the free memory; transformers takes
    60 % of all memory there is, which it fills at once.
    """
    device = options["device"]
    on_cpu = device == "cpu" or (device == "auto" and not torch.accelerator.is_available())
    said = options["cb_num_blocks"] or options["cb_max_memory_percent"]
    if options["continuous_batching"] is False or said or not on_cpu:
        return
    import psutil  # which transformers asks as well

    memory = psutil.virtual_memory()
    free = min(available_bytes(torch.device("cpu")), memory.available)
    options["cb_max_memory_percent"] = min(_CACHE, free // 4) / memory.total
    context = config and getattr(config.get_text_config(), "max_position_embeddings", None)
    if context is not None and running * context * _token_bytes(config) < min(_CACHE, free // 4):
        options["cb_num_blocks"] = -(-running * context // _PAGE)
        options["cb_max_memory_percent"] = None


def _token_bytes(config: Any) -> float:
    """What a token takes in the cache of a decoder in fp32; without bounds if that is not known."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or getattr(text, "num_attention_heads", None)
    size = getattr(text, "head_dim", None)
    layers = getattr(text, "num_hidden_layers", None)
    if size is None and heads is not None:
        size = text.hidden_size // text.num_attention_heads
    return 8 * layers * heads * size if layers and heads and size else math.inf


def _checked_config(name: str, vectors: EmotionVectors, source: Path) -> Any:
    """The config of the model; EmokernelError for what is none, or not that of the vectors.

    ``name`` is the server's: OWNER/NAME@REVISION too. None for one with a colon, of which the
    server says itself what it means.
    """
    repository, at, revision = name.rpartition("@")
    if Path(name).exists() or not at:
        repository, revision = name, None
    if not Path(repository).exists() and ":" in repository:
        return None
    config = models.load_config(Asked(repository, revision))
    models.check_fits(vectors, config, source)
    return config
