"""GGUF files of whole models: read by transformers, and then models like any other.

What transformers reads of a GGUF file counts as quantised, so it can be neither saved nor trained,
and its tokenizer lacks some of what the file says. Here the weights are those that the blocks of
the file stand for, in a model of their own.
"""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stderr
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import pre_tokenizers
from tqdm import tqdm
from transformers.utils import logging

from emokernel.errors import EmokernelError
from emokernel.extras import need
from emokernel.model_class import model_class

# Pre-tokenizers of llama.cpp that are GPT-2's behind one which sets every digit apart.
_DIGITS_APART = frozenset("smollm starcoder refact command-r codeshell exaone minerva-7b".split())
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_VECTORS = ("controlvector", "steeringvector")
# Whether there are tensors that change how positions are read, as those of Llama 3.1 are.
_ROPE_TENSORS = "rope tensors"
# The one architecture of which transformers reads that.
_SCALED = "gpt-oss"


def is_gguf(path: Path) -> bool:
    """Whether a file is one of these, by its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def load_config(path: Path) -> Any:
    """The config of the model, so that `from_config` and `save_pretrained` take it.

    EmokernelError for vectors, an adapter, a damaged file, or an architecture that transformers
    does not read from GGUF; a warning for positions that it does not read as the file says.
    """
    fields = _fields(path)
    kind = fields["general.architecture"]
    if kind in _VECTORS:
        raise EmokernelError(
            f"{path} is a GGUF file of vectors, not of a model: give it with --vectors"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    except (ValueError, KeyError, NotImplementedError, OSError) as error:
        raise EmokernelError(
            f"{path}: transformers reads no GGUF file of the architecture {kind!r}: give the folder"
            " or the repository id of the model that it was made from"
        ) from error
    scaling = fields.get(f"{kind}.rope.scaling.type", "none")
    if kind != _SCALED and (fields[_ROPE_TENSORS] or scaling != "none"):
        warnings.warn(
            f"{path} scales positions (RoPE), which transformers does not read from GGUF files: the"
            " longer a text, the more the model differs; give the folder or the repository id of"
            " the model that the file was made from",
            stacklevel=2,
        )
    vars(config).pop("_model_name_or_path", None)  # a title in the file, nobody's repository
    return config


def load_tokenizer(path: Path) -> Any:
    """The tokenizer, which splits text as llama.cpp does and pads on the left."""
    fields = _fields(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    if fields.get("tokenizer.ggml.pre") in _DIGITS_APART:
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )
    longest = fields.get(f"{fields['general.architecture']}.context_length")
    if longest:
        tokenizer.model_max_length = tokenizer.init_kwargs["model_max_length"] = int(longest)
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"
    for how in ("is_local", "local_files_only", "gguf_file", "name_or_path"):
        tokenizer.init_kwargs.pop(how, None)  # it was read, which save_pretrained writes down
    return tokenizer


def load_weights(
    path: Path, config: Any, dtype: torch.dtype = torch.float32, device_map: Any = None
) -> Any:
    """The model of `load_config`'s config, in evaluation mode, with the weights of the file.

    float32 holds what most kinds of blocks stand for exactly; the halves round it. EmokernelError
    for a file that lacks some of the weights, which transformers would fill with random numbers.
    """
    need("accelerate")
    quantisation = getattr(transformers, "GgufConfig", None)  # weights that stay in their blocks
    whole = {"quantization_config": quantisation(dequantize=True)} if quantisation else {}
    kind = model_class(config)
    read, loaded = kind.from_pretrained(
        path.parent, gguf_file=path.name, dtype=dtype, output_loading_info=True, **whole
    )
    if loaded["missing_keys"]:
        raise EmokernelError(
            f"{path} lacks {len(loaded['missing_keys'])} of the weights of its model, such as"
            f" {min(loaded['missing_keys'])}: give a file that is whole, not one of several parts"
        )
    options = {"device_map": device_map} if device_map else {}
    state = read.state_dict()
    model = type(read).from_pretrained(
        None, config=config, state_dict=state, dtype=dtype, **options
    )
    ids = {name: getattr(config, name, None) for name in _IDS}
    model.generation_config = transformers.GenerationConfig(**ids)
    return model


def save(path: Path, folder: Path, progress: bool) -> None:
    """Write a GGUF file as a folder of Hugging Face, in float32. ``progress`` shows a bar."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with tqdm(total=3, desc=f"converting {path.stem}", disable=not progress) as bar:
            load_tokenizer(path).save_pretrained(folder)
            bar.update()
            with redirect_stderr(io.StringIO()):  # a bar of transformers' own across this one
                model = load_weights(path, load_config(path))
            bar.update()
            model.save_pretrained(folder)
            bar.update()
    finally:
        if shown:
            logging.enable_progress_bar()


def _fields(path: Path) -> dict[str, Any]:
    """The single values of a file's head, not lists, as of tokens; and `_ROPE_TENSORS`."""
    return _fields_at(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)  # reading a vocabulary takes seconds
def _fields_at(path: Path, changed: int) -> dict[str, Any]:
    gguf = need("gguf")
    try:
        reader = gguf.GGUFReader(path)
        every = reader.fields.items()
        fields = {name: field.contents() for name, field in every if len(field.types) == 1}
        fields["general.architecture"]
        fields[_ROPE_TENSORS] = any(each.name.startswith("rope_") for each in reader.tensors)
    except (ValueError, IndexError, KeyError, OSError, UnicodeDecodeError) as error:
        raise EmokernelError(f"{path} is a damaged GGUF file: copy or fetch it again") from error
    return fields
