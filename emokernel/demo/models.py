"""MODEL, whatever it is: a name, a folder, a repository of the Hub or a GGUF file.

`load` gives the model and its tokenizer. Commands go three steps, from cheap to dear: what it is,
its tokenizer, its weights.
"""

from __future__ import annotations

import argparse
import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from emokernel.demo.named import MAKE_VECTORS, NAMED, named
from emokernel.errors import EmokernelError, telling
from emokernel.model_class import model_class
from emokernel.vectors import EmotionVectors
from emokernel.weights import gguf

_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_GIVE = "give the folder or the repository id of a model that transformers loads"
# A repository id of the Hub: NAME or OWNER/NAME.
_REPOSITORY = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


@dataclass(frozen=True)
class Asked:
    """What is to be loaded and how; the arguments of `emokernel.commands.arguments.add_model`."""

    model: str
    revision: str | None = None
    dtype: str = "auto"
    device_map: str | None = None


# What was parsed has the same names.
Wanted = Asked | argparse.Namespace


def load(
    model: str, *, revision: str | None = None, dtype: str = "auto", device_map: str | None = None
) -> tuple[PreTrainedModel, Any]:
    """(model in evaluation mode, tokenizer) of any MODEL.

    ``model``: "smollm2" or "embedded", a folder, a repository id of the Hub, a .gguf file or the
    folder of one. ``revision``: branch, tag or commit of a repository. ``dtype``: "float32",
    "bfloat16", "float16", or "auto", as the weights are stored (GGUF: float32). ``device_map``:
    see `from_pretrained`; else the first GPU if there is one (embedded: the CPU).

    Raises EmokernelError, with what to give instead, for what is no model.
    """
    asked = Asked(model, revision, dtype, device_map)
    config = load_config(asked)
    return load_weights(asked, config), load_tokenizer(asked)


def load_vectors(model: str) -> EmotionVectors:
    """The vectors that ship for a MODEL, "smollm2" or "embedded"; EmokernelError for any other."""
    vectors = named(model).load_vectors()
    if vectors is None:
        raise EmokernelError(f"no vectors of {model} ship: {MAKE_VECTORS.format(model)}")
    return vectors


def load_config(asked: Wanted) -> PreTrainedConfig:
    """The config of the model, so that what does not fit it is refused before it is loaded.

    EmokernelError, with what to give instead, for what is no model.
    """
    place = resolved(asked)
    if gguf.is_gguf(Path(place)):
        return gguf.load_config(Path(place))
    name = _base_of(asked.model, place) or place
    with _telling(asked.model):
        try:
            config = AutoConfig.from_pretrained(name, **_revision(asked, name))
        except OSError:
            find = transformers.utils.find_adapter_config_file
            adapter = find(name, **_revision(asked, name))
            if adapter is None:
                raise
            config = AutoConfig.from_pretrained(_adapted(asked.model, Path(adapter)))
        model_class(config)
    return config


def load_tokenizer(asked: Wanted, *, needed: bool = True) -> Any:
    """The tokenizer; None if it cannot be loaded and is not ``needed``, else EmokernelError."""
    place = resolved(asked)
    is_gguf = gguf.is_gguf(Path(place))
    if not is_gguf:
        _base_of(asked.model, place)  # says what is wrong with the model, not with its tokenizer
    with _telling(asked.model):
        try:
            if is_gguf:
                return gguf.load_tokenizer(Path(place))
            return AutoTokenizer.from_pretrained(place, **_revision(asked, place))
        except Exception as error:  # without files, each kind of tokenizer raises something else
            if not needed:
                return None
            first = str(error).strip().partition("\n")[0]
            raise ValueError(f"its tokenizer cannot be read ({first})") from error


def load_weights(asked: Wanted, config: PreTrainedConfig) -> PreTrainedModel:
    """The model, in evaluation mode; ``config``: `load_config`'s."""
    place, of_name = resolved(asked), named(asked.model)
    dtype = of_name.dtype if asked.dtype == "auto" else asked.dtype
    options: dict[str, Any] = {"device_map": asked.device_map} if asked.device_map else {}
    with _telling(asked.model):
        if gguf.is_gguf(Path(place)):
            kind = torch.float32 if dtype == "auto" else getattr(torch, dtype)
            model = gguf.load_weights(Path(place), config, kind, **options)
        else:
            options |= _revision(asked, place)
            model = model_class(config).from_pretrained(place, dtype=dtype, **options)
        if not asked.device_map and not of_name.on_cpu and torch.cuda.is_available():
            model = model.to("cuda")
    return model.eval()


def resolved(asked: Wanted) -> str:
    """Where MODEL lies: a folder, a GGUF file, or a repository id of the Hub.

    What has a name is fetched if need be. EmokernelError for a path that holds no model, and for a
    revision of what has none.
    """
    name, find = asked.model, named(asked.model).find
    if find is not None:
        _check_no_revision(asked, f"{name} is of one version")
        return str(find())
    place = Path(name)
    if gguf.is_gguf(place):
        _check_no_revision(asked, f"{name} is a file")
        return name
    if place.is_file():
        raise _refused(name, _of_file(place))
    if not place.is_dir():
        if not _REPOSITORY.fullmatch(name) or name.lower().endswith(".gguf"):
            raise _refused(
                name, f"there is no such folder or file; {_GIVE}, or one of {', '.join(NAMED)}"
            )
        return name
    files = sorted(place.glob("*.gguf"))
    if not files or (place / _CONFIG).is_file() or (place / _ADAPTER).is_file():
        return name
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:4])
        raise _refused(name, f"it holds several GGUF files: name one of {names}")
    if not gguf.is_gguf(files[0]):
        raise _refused(name, f"{files[0].name} is no GGUF file, or a damaged one; {_GIVE}")
    _check_no_revision(asked, f"{name} holds a file")
    return str(files[0])


def _base_of(name: str, place: str) -> str | None:
    """The base of a folder with an adapter, which transformers puts on it; None for a model.

    EmokernelError for a folder that holds neither.
    """
    folder = Path(place)
    if not folder.is_dir() or (folder / _CONFIG).is_file():
        return None
    if (folder / _ADAPTER).is_file():
        return _adapted(name, folder / _ADAPTER)
    raise _refused(name, f"it has no {_CONFIG}; {_GIVE}")


def _of_file(path: Path) -> str:
    if path.suffix.lower() == ".gguf":
        return f"no GGUF file, or a damaged one; {_GIVE}"
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


def _revision(asked: Wanted, name: str) -> dict[str, str]:
    """``revision`` is that of the model itself, not of what an adapter is put on."""
    return {"revision": asked.revision} if asked.revision and name == asked.model else {}


def _check_no_revision(asked: Wanted, reason: str) -> None:
    if asked.revision:
        raise EmokernelError(f"{reason}: leave the revision {asked.revision} out")


def _telling(name: str) -> AbstractContextManager[None]:
    hint = " (nor is there a folder of that name here: check how it is spelt)"
    if Path(name).exists() or name in NAMED:
        hint = ""
    elif "gguf" in name.lower():
        hint = f"; of GGUF files fetch one and name it, or {_GIVE}"
    return telling(f"load the model {name}", hint)


def _refused(name: str, reason: str) -> EmokernelError:
    return EmokernelError(f"cannot load the model {name}: {reason}")
