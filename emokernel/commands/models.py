"""MODEL, in three steps from cheap to dear: what it is, its tokenizer, its weights."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from emokernel.bench.memory import check_weights
from emokernel.bench.stand_ins import scaled_random_vectors
from emokernel.commands.arguments import EMBEDDED, telling
from emokernel.demo.model import MODEL_PATH, load_model
from emokernel.demo.vectors import load_vectors
from emokernel.errors import EmokernelError
from emokernel.model_class import model_class
from emokernel.ops import select
from emokernel.vectors import EmotionVectors

_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_GIVE = "give the folder or the repository id of a model that transformers loads"
# A repository id of the Hub: NAME or OWNER/NAME.
_REPOSITORY = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


def load_config(chosen: argparse.Namespace) -> PreTrainedConfig:
    """The config of the model, so that what does not fit it is refused before it is loaded.

    EmokernelError, with what to give instead, for what is no model.
    """
    name = _base_of(chosen.model) or _place(chosen.model)
    with _telling(chosen.model):
        try:
            config = AutoConfig.from_pretrained(name, **_revision(chosen, name))
        except OSError:
            find = transformers.utils.find_adapter_config_file
            adapter = find(name, **_revision(chosen, name))
            if adapter is None:
                raise
            config = AutoConfig.from_pretrained(_adapted(chosen.model, Path(adapter)))
        model_class(config)
    return config


def load_tokenizer(chosen: argparse.Namespace, *, needed: bool = True) -> Any:
    """The tokenizer; None if it cannot be loaded and is not ``needed``, else EmokernelError."""
    name = _place(chosen.model)
    _base_of(chosen.model)  # which says what is wrong with the model, not with its tokenizer
    with _telling(chosen.model):
        try:
            return AutoTokenizer.from_pretrained(name, **_revision(chosen, name))
        except Exception as error:  # without files, each kind of tokenizer raises something else
            if not needed:
                return None
            first = str(error).strip().partition("\n")[0]
            raise ValueError(f"its tokenizer cannot be read ({first})") from error


def load_weights(chosen: argparse.Namespace, config: PreTrainedConfig) -> PreTrainedModel:
    """The model of `add_model`'s arguments, in evaluation mode; ``config``: `load_config`'s."""
    if chosen.model == EMBEDDED:
        dtype = torch.float32 if chosen.dtype == "auto" else getattr(torch, chosen.dtype)
        return load_model(dtype)[0]
    options = _revision(chosen, chosen.model) | {"dtype": chosen.dtype}
    if chosen.device_map:
        options["device_map"] = chosen.device_map
    with _telling(chosen.model):
        model = model_class(config).from_pretrained(chosen.model, **options)
        if not chosen.device_map and torch.cuda.is_available():
            model = model.to("cuda")
    return model.eval()


def load_to_write(
    chosen: argparse.Namespace, fitting: Mapping[object, EmotionVectors]
) -> tuple[PreTrainedConfig, Any]:
    """(config, tokenizer) of a model that is to write texts, steered by ``fitting`` vectors.

    They are {what they are read from: vectors}. EmokernelError for those of another model, and if
    nothing can steer the model where it goes.
    """
    check_can_steer("cpu" if chosen.model == EMBEDDED else chosen.device_map)
    config = load_config(chosen)
    for source, vectors in fitting.items():
        check_fits(vectors, config, source)
    return config, load_tokenizer(chosen)


def load_to_measure(chosen: argparse.Namespace) -> tuple[PreTrainedModel, Any]:
    """(model, tokenizer); EmokernelError if the weights do not fit the memory that is free.

    The tokenizer is None, which is said, where there is none.
    """
    device = None
    if chosen.device_map != "auto":  # which may spread the weights over several devices
        name = chosen.device_map or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:  # what torch raises without CUDA
            raise EmokernelError(
                f"there is no device {name!r} here: choose another --device-map"
            ) from error
        check_weights(_place(chosen.model), chosen.dtype, chosen.revision, device)
    config, tokenizer = load_config(chosen), load_tokenizer(chosen, needed=False)
    model = load_weights(chosen, config)
    if tokenizer is None:
        print(f"no tokenizer in {chosen.model}: going on with random tokens", file=sys.stderr)
    if chosen.model == EMBEDDED and device is not None:  # which that one is not loaded to
        model = model.to(device)
    return model, tokenizer


def given_vectors(chosen: argparse.Namespace) -> EmotionVectors | None:
    """The vectors of ``--vectors``, or of the embedded model; None for neither."""
    if chosen.vectors is not None:
        return EmotionVectors.load(chosen.vectors)
    return load_vectors() if chosen.model == EMBEDDED else None


def vectors_of(
    chosen: argparse.Namespace, given: EmotionVectors | None, model: PreTrainedModel
) -> tuple[EmotionVectors, str]:
    """The vectors to steer with, those that were ``given`` or random ones, and what they are."""
    if given is not None:
        return given, "the shipped ones" if chosen.vectors is None else str(chosen.vectors)
    vectors = scaled_random_vectors(model)
    return vectors, (
        f"random ones at site {vectors.site!r}, a fifth as long as the rows of the stream"
        " (--vectors names yours)"
    )


def check_can_steer(device_map: str | None = None) -> None:
    """BackendError if no backend can steer a model there, or not the one that is forced."""
    if device_map in (None, "auto"):
        device_map = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device_map)
    except RuntimeError:
        return  # a way to spread a model, which accelerate knows
    select(device)


def check_fits(vectors: EmotionVectors, config: PreTrainedConfig, source: object) -> None:
    """EmokernelError if vectors have not the layers and width of a model."""
    text = config.get_text_config()
    given = vectors.num_layers, vectors.hidden_size
    wanted = tuple(getattr(text, key, None) for key in ("num_hidden_layers", "hidden_size"))
    if None not in wanted and given != wanted:
        raise EmokernelError(
            f"{source}: these vectors belong to another model: they have {given[0]} layers of width"
            f" {given[1]}, this model has {wanted[0]} of {wanted[1]}; give its own"
        )


def _base_of(name: str) -> str | None:
    """The base of a folder with an adapter, which transformers puts on it; None for a model.

    EmokernelError for a path that holds no model.
    """
    place = Path(_place(name))
    if place.is_file():
        raise _refused(name, _of_file(place))
    if not place.is_dir():
        if not _REPOSITORY.fullmatch(name):
            raise _refused(name, f"there is no such folder; {_GIVE}")
        return None
    if (place / _CONFIG).is_file():
        return None
    if (place / _ADAPTER).is_file():
        return _adapted(name, place / _ADAPTER)
    if any(place.glob("*.gguf")):
        raise _refused(name, f"it holds GGUF files, which llama.cpp runs; {_GIVE}")
    raise _refused(name, f"it has no {_CONFIG}; {_GIVE}")


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    if is_gguf or path.suffix.lower() == ".gguf":
        return f"a GGUF file, which llama.cpp runs; {_GIVE}, such as the one it was made from"
    return f"a single file; {_GIVE}, which has its {_CONFIG} beside its weights"


def _adapted(name: str, path: Path) -> str:
    try:
        base = json.loads(path.read_text("utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        base = None
    if not base or find_spec("peft") is None:
        raise _refused(
            name,
            f"it holds an adapter of {base or 'an unnamed model'}, no model: install peft (pip"
            " install peft), or merge it into its model (PEFT's merge_and_unload) and give the"
            " folder of that",
        )
    return base


def _place(name: str) -> str:
    return str(MODEL_PATH) if name == EMBEDDED else name


def _revision(chosen: argparse.Namespace, name: str) -> dict[str, str]:
    """``revision`` is that of the model itself, not of what an adapter is put on."""
    return {"revision": chosen.revision} if chosen.revision and name == chosen.model else {}


def _telling(name: str) -> AbstractContextManager[None]:
    hint = " (nor is there a folder of that name here: check how it is spelt)"
    if "gguf" in name.lower():
        hint = f"; GGUF files are for llama.cpp: {_GIVE}"
    elif Path(_place(name)).exists():
        hint = ""
    return telling(f"load the model {name}", hint)


def _refused(name: str, reason: str) -> EmokernelError:
    return EmokernelError(f"cannot load the model {name}: {reason}")
