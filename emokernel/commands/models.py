"""MODEL of the commands, and the vectors that it is steered with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from emokernel.bench.memory import check_weights
from emokernel.bench.stand_ins import scaled_random_vectors
from emokernel.demo.models import load_config, load_tokenizer, load_weights, resolved
from emokernel.demo.named import MAKE_VECTORS, WITH_VECTORS, named
from emokernel.errors import EmokernelError
from emokernel.ops import select
from emokernel.vectors import EmotionVectors

__all__ = [
    "check_can_steer",
    "check_fits",
    "given_vectors",
    "load_config",
    "load_to_measure",
    "load_to_write",
    "load_tokenizer",
    "load_weights",
    "needed_vectors",
    "resolved",
    "vectors_of",
]


def load_to_write(
    chosen: argparse.Namespace, fitting: Mapping[object, EmotionVectors]
) -> tuple[PreTrainedConfig, Any]:
    """(config, tokenizer) of a model that is to write texts, steered by ``fitting`` vectors.

    They are {what they are read from: vectors}. EmokernelError for those of another model, and if
    nothing can steer the model where it goes.
    """
    check_can_steer(chosen.device_map or ("cpu" if named(chosen.model).on_cpu else None))
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
        check_weights(resolved(chosen), chosen.dtype, chosen.revision, device)
    config, tokenizer = load_config(chosen), load_tokenizer(chosen, needed=False)
    model = load_weights(chosen, config)
    if tokenizer is None:
        print(f"no tokenizer in {chosen.model}: going on with random tokens", file=sys.stderr)
    # What writes on the CPU is measured where it was asked for. Others are there, and quantised
    # ones refuse to be moved.
    if device is not None and named(chosen.model).on_cpu:
        model = model.to(device)
    return model, tokenizer


def given_vectors(chosen: argparse.Namespace) -> EmotionVectors | None:
    """The vectors of ``--vectors``, or those that ship with the model; None for neither."""
    if chosen.vectors is not None:
        return EmotionVectors.load(chosen.vectors)
    return named(chosen.model).load_vectors()


def needed_vectors(chosen: argparse.Namespace, to: str) -> EmotionVectors:
    """Those of `given_vectors` ``to`` do something; EmokernelError, with what makes them, else."""
    vectors = given_vectors(chosen)
    if vectors is None:
        raise EmokernelError(
            f"no vectors to {to}: give a file with --vectors; {MAKE_VECTORS.format(chosen.model)};"
            f" they ship for {WITH_VECTORS}"
        )
    return vectors


def vectors_of(
    chosen: argparse.Namespace,
    given: EmotionVectors | None,
    model: PreTrainedModel,
    emotions: int = 4,
) -> tuple[EmotionVectors, str]:
    """The vectors to steer with, those ``given`` or as many random ones, and what they are."""
    if given is not None:
        return given, "the shipped ones" if chosen.vectors is None else str(chosen.vectors)
    vectors = scaled_random_vectors(model, emotions)
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
