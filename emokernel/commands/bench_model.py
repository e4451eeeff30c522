"""The model and the vectors of `bench` and `verify`: the user's own, or what stands in for them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emokernel.commands.models import EMBEDDED, load_config, load_tokenizer, load_weights

if TYPE_CHECKING:
    from emokernel.vectors import EmotionVectors


def add_vectors(parser: argparse.ArgumentParser) -> None:
    """--vectors and --compile-backend."""
    parser.add_argument(
        "--vectors", type=Path,
        help="file of the model's emotion vectors (the shipped ones of the embedded model, random"
        " ones of another)",
    )  # fmt: skip
    parser.add_argument(
        "--compile-backend", default="inductor", metavar="NAME",
        help="what torch.compile compiles with (inductor)",
    )  # fmt: skip


def load_checked(chosen: argparse.Namespace) -> tuple[Any, Any]:
    """(model, tokenizer); EmokernelError if the weights do not fit the memory that is free.

    The tokenizer is None, which is said, where there is none.
    """
    import torch

    from emokernel.bench.memory import check_weights
    from emokernel.demo.model import MODEL_PATH

    embedded = chosen.model == EMBEDDED
    if chosen.device_map != "auto":  # which may spread the weights over several devices
        device = chosen.device_map or ("cuda" if torch.cuda.is_available() else "cpu")
        name = str(MODEL_PATH) if embedded else chosen.model
        check_weights(name, chosen.dtype, chosen.revision, _device(device))
    config, tokenizer = load_config(chosen), load_tokenizer(chosen, needed=False)
    model = load_weights(chosen, config)
    if tokenizer is None:
        print(f"no tokenizer in {chosen.model}: going on with random tokens", file=sys.stderr)
    if embedded and chosen.device_map != "auto":  # which that one is not loaded with
        model = model.to(_device(device))
    return model, tokenizer


def _device(name: str) -> Any:
    import torch

    from emokernel.errors import EmokernelError

    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # what torch raises without CUDA
        raise EmokernelError(
            f"there is no device {name!r} here: choose another --device-map"
        ) from error
    return device


def given_vectors(chosen: argparse.Namespace) -> EmotionVectors | None:
    """The vectors that are known before the model is loaded; None for random ones."""
    from emokernel.demo.vectors import load_vectors
    from emokernel.vectors import EmotionVectors

    if chosen.vectors is not None:
        return EmotionVectors.load(chosen.vectors)
    return load_vectors() if chosen.model == EMBEDDED else None


def vectors_of(
    chosen: argparse.Namespace, given: EmotionVectors | None, model: Any
) -> tuple[EmotionVectors, str]:
    """The vectors to steer with, those that were ``given`` or random ones, and what they are."""
    from emokernel.bench.stand_ins import scaled_random_vectors

    if given is not None:
        return given, "the shipped ones" if chosen.vectors is None else str(chosen.vectors)
    vectors = scaled_random_vectors(model)
    return vectors, (
        f"random ones at site {vectors.site!r}, a fifth as long as the rows of the stream"
        " (--vectors names yours)"
    )
