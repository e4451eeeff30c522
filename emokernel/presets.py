"""Published methods as presets of `emokernel.patch`.

**"emotion-vectors"**: Controllable Emotion Generation with Emotion Vectors, arXiv 2502.04075, as
its code (github.com/xuanfengzu/EmotionVector, ``code/apply.py``) does it: in every layer it adds
``sum_i times_i * EV_l_i`` to the output ``[batch, tokens, d]`` of the self-attention, before the
residual add, in the last position of each forward call, and rescales nothing. The i-th of its
``times`` is here the weight of an emotion: ``steering.set({"anger": 0.5, "joy": 0.5})``. Vectors
made for another site are added there all the same; `Report` notes it.

The last position of each call is the last prompt token in the prefill and each new token in
decoding with a cache, which is `generate` as it comes. What differs from that code:

- Padding on the right: it steers the last column, be that padding; here it is the last token.
  Left padding makes no difference.
- ``use_cache=False``: it steers only the newest token of each forward call, so that the tokens
  before it are computed anew without steering; here they keep what they had with a cache. Likewise
  where `generate` runs several tokens at once (prompts in chunks, assisted decoding): it steers the
  last one of each call, here it is the last prompt token and every generated one, as without.
- Blocks that norm or scale the attention's output before they add it: it adds the vector before
  that (it was written for Llama, which has no such step), here it is what the stream gets.
- In types below fp32 it rounds after each emotion and again at the residual add, here once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from emokernel.errors import SteeringError
from emokernel.vectors import EmotionVectors


@dataclass(frozen=True)
class Choices:
    """The choices that `emokernel.patch` leaves open.

    ``site`` None: the vectors' own; ``layers`` None: all that the vectors have.
    """

    site: str | None = None
    law: str = "preserve"
    dose: str = "absolute"
    layers: Sequence[int] | None = None
    positions: str = "all"


@dataclass(frozen=True)
class Preset:
    """A published method: ``paper`` says which, ``choices`` what it chooses."""

    paper: str
    choices: Choices


PRESETS = {
    "emotion-vectors": Preset(
        "Controllable Emotion Generation with Emotion Vectors, arXiv 2502.04075",
        Choices(site="attention", law="add", dose="absolute", layers=None, positions="last"),
    ),
}


def choose(preset: str | None, vectors: EmotionVectors, **given: Any) -> Choices:
    """The choices of ``preset``, or those without one, and what was ``given``: fields, None if not.

    Raises SteeringError for an unknown preset, and for a choice that contradicts it.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if preset is None:
        return replace(Choices(), **given)
    if not isinstance(preset, str) or preset not in PRESETS:
        raise SteeringError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    choices = PRESETS[preset].choices
    for name, value in given.items():
        if not _agrees(name, value, getattr(choices, name), vectors):
            raise SteeringError(
                f"{name}={value!r} contradicts the preset {preset!r}, which means"
                f" {_spelled(choices)}: leave {name} out, or give all of these without the preset"
            )
    return replace(choices, **given)


def _agrees(name: str, given: Any, named: Any, vectors: EmotionVectors) -> bool:
    if name != "layers":
        return given == named
    # Layers in which the vectors are zero make no difference.
    named, given = vectors.layers if named is None else named, list(given)
    return all((layer in given) == (layer in named) for layer in vectors.layers)


def _spelled(choices: Choices) -> str:
    named = {field.name: getattr(choices, field.name) for field in fields(choices)}
    if named["layers"] is None:
        named["layers"] = "all that the vectors have"
    return ", ".join(f"{name} {value}" for name, value in named.items())
