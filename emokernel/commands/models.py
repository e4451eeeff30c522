"""MODEL, in three steps from cheap to dear: what it is, its tokenizer, its weights."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.model_class import model_class
from emokernel.vectors import EmotionVectors

EMBEDDED = "embedded"
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_GIVE = "give the folder or the repository id of a model that transformers loads"
# A repository id of the Hub: NAME or OWNER/NAME.
_REPOSITORY = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


def load_config(chosen: argparse.Namespace) -> Any:
    """The config of the model, so that what does not fit it is refused before it is loaded.

    EmokernelError, with what to give instead, for what is no model.
    """
    name = _base_of(chosen.model) or _place(chosen.model)
    with _telling(chosen.model):
        from transformers import AutoConfig
        from transformers.utils import find_adapter_config_file

        try:
            config = AutoConfig.from_pretrained(name, **_revision(chosen, name))
        except OSError:
            adapter = find_adapter_config_file(name, **_revision(chosen, name))
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
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(name, **_revision(chosen, name))
        except Exception as error:  # without files, each kind of tokenizer raises something else
            if not needed:
                return None
            if isinstance(error, OSError | ValueError | ImportError):
                raise
            raise EmokernelError(f"its tokenizer is damaged ({_first_line(error)})") from error


def load_weights(chosen: argparse.Namespace, config: Any) -> Any:
    """The model of `add_model`'s arguments, in evaluation mode; ``config``: `load_config`'s."""
    import torch

    if chosen.model == EMBEDDED:
        from emokernel.demo.model import load_model

        dtype = torch.float32 if chosen.dtype == "auto" else getattr(torch, chosen.dtype)
        return load_model(dtype)[0]
    options = _revision(chosen, chosen.model)
    if chosen.device_map:
        options["device_map"] = chosen.device_map
    with _telling(chosen.model):
        model = model_class(config).from_pretrained(chosen.model, dtype=chosen.dtype, **options)
        if not chosen.device_map and torch.cuda.is_available():
            model = model.to("cuda")
    return model.eval()


def check_can_steer(device_map: str | None = None) -> None:
    """BackendError if no backend can steer a model there, or not the one that is forced."""
    import torch

    from emokernel.ops import select

    device = device_map
    if device in (None, "auto"):
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
    except RuntimeError:
        return  # a way to spread a model, which accelerate knows
    select(device)


def check_fits(vectors: EmotionVectors, config: Any, source: object) -> None:
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
        raise EmokernelError(f"cannot load the model {name}: {_of_file(place)}")
    if not place.is_dir():
        if not _REPOSITORY.fullmatch(name):
            raise EmokernelError(f"cannot load the model {name}: there is no such folder; {_GIVE}")
        return None
    if (place / _CONFIG).is_file():
        return None
    if (place / _ADAPTER).is_file():
        return _adapted(name, place / _ADAPTER)
    reason = f"it has no {_CONFIG}"
    if any(place.glob("*.gguf")):
        reason = "it holds GGUF files, which llama.cpp runs"
    raise EmokernelError(f"cannot load the model {name}: {reason}; {_GIVE}")


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
        raise EmokernelError(
            f"cannot load the model {name}: it holds an adapter of {base or 'an unnamed model'}, no"
            " model: install peft (pip install peft), or merge it into its model (PEFT's"
            " merge_and_unload) and give the folder of that"
        )
    return base


def _place(name: str) -> str:
    if name != EMBEDDED:
        return name
    from emokernel.demo.model import MODEL_PATH

    return str(MODEL_PATH)


def _revision(chosen: argparse.Namespace, name: str) -> dict[str, Any]:
    """``revision`` is that of the model itself, not of what an adapter is put on."""
    return {"revision": chosen.revision} if chosen.revision and name == chosen.model else {}


@contextmanager
def _telling(name: str) -> Iterator[None]:
    """EmokernelError that names the model in place of what transformers raises."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:  # ImportError: a missing package
        here = Path(_place(name)).exists()
        hint = "" if here else " (nor is there a folder of that name here: check how it is spelt)"
        if "gguf" in name.lower():
            hint = f"; GGUF files are for llama.cpp: {_GIVE}"
        raise EmokernelError(f"cannot load the model {name}: {_first_line(error)}{hint}") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
