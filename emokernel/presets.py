"""Published methods as presets of `emokernel.patch`, and what it chooses where nothing is said.

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from emokernel.choices import DOSE, LAW, MAPPING, POSITIONS, SITE, law_bits
from emokernel.errors import SteeringError
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import Calibration


@dataclass(frozen=True)
class OpenChoices:
    """The choices that `emokernel.patch` leaves open.

    ``site`` None: the vectors' own; ``layers`` None: all that the vectors have.
    """

    site: str | None = None
    law: str = LAW.default
    dose: str = DOSE.default
    layers: Sequence[int] | None = None
    positions: str = POSITIONS.default


@dataclass(frozen=True)
class Preset:
    """A published method: ``paper`` says which, ``choices`` what it chooses."""

    paper: str
    choices: OpenChoices


PRESETS = {
    "emotion-vectors": Preset(
        "Controllable Emotion Generation with Emotion Vectors, arXiv 2502.04075",
        OpenChoices(site="attention", law="add", dose="absolute", layers=None, positions="last"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Settled(OpenChoices):
    """OpenChoices with nothing left open, and how the model is patched.

    ``calibration``: what says how much strength 1.0 is; None: the vectors as they are, and
    ``uncalibrated`` says why.
    """

    site: str = field()
    layers: list[int] = field()
    mapping: str = MAPPING.default
    calibration: Calibration | None = None
    uncalibrated: str = ""
    fuse_norm: bool = True
    backend: str | None = None
    slots: int = 256

    @property
    def strengths(self) -> str:
        """What strength 1.0 is, for people."""
        if self.calibration is None:
            return f"the vector as it is ({self.uncalibrated})"
        by = f"calibrated, law {self.law!r}, dose {self.dose!r}, mapping {self.mapping!r}"
        if self.positions == "all":
            return by
        return f"{by}; at positions 'all', not {self.positions!r}"


def settle(
    vectors: EmotionVectors,
    *,
    preset: str | None = None,
    calibrated: bool | None = None,
    mapping: str | None = None,
    fuse_norm: bool = True,
    backend: str | None = None,
    slots: int = 256,
    **given: Any,
) -> Settled:
    """What `emokernel.patch` does with ``given``: fields of `OpenChoices`, None where left open.

    Raises SteeringError for an unknown choice, or one that contradicts the preset, for
    ``calibrated=True`` where the calibration cannot be used, and without slots.
    """
    if slots < 1:
        raise SteeringError(f"slots must be at least 1, got {slots}")
    choices = choose(preset, vectors, **given)
    if given.get("layers") is not None:
        vectors.layers_to_steer(given["layers"])
    calibration = vectors.calibration
    obstacle = _obstacle(vectors, preset, given)
    if calibrated and obstacle:
        raise SteeringError(f"calibrated=True, but {obstacle}")
    if calibration is None or obstacle or calibrated is False:
        calibration = None
    else:
        choices = replace(
            choices,
            site=calibration.site,
            layers=[layer for layer, weight in enumerate(calibration.profile) if weight],
            law=given.get("law") or calibration.law,
            dose=given.get("dose") or calibration.dose,
        )
        mapping = mapping or calibration.mapping
    law_bits(choices.law, choices.dose)
    return Settled(
        site=SITE.check(choices.site or vectors.site), law=choices.law, dose=choices.dose,
        layers=vectors.layers_to_steer(choices.layers),
        positions=POSITIONS.check(choices.positions),
        mapping=MAPPING.check(mapping or MAPPING.default),
        calibration=calibration, uncalibrated=obstacle or "calibrated=False",
        fuse_norm=fuse_norm, backend=backend, slots=slots,
    )  # fmt: skip


def _obstacle(vectors: EmotionVectors, preset: str | None, given: Mapping[str, Any]) -> str | None:
    """Why the calibration of the vectors cannot be used; None if it can."""
    calibration = vectors.calibration
    if calibration is None:
        return "the vectors have no calibration"
    if preset is not None:
        return f"the preset {preset!r} has doses of its own"
    if given.get("site") not in (None, calibration.site):
        return f"they were calibrated at site {calibration.site!r}"
    steered = [layer for layer, weight in enumerate(calibration.profile) if weight]
    layers = given.get("layers")
    if layers is not None and sorted(set(layers) & set(vectors.layers)) != steered:
        return f"they were calibrated for the layers {steered}"
    return None


def choose(preset: str | None, vectors: EmotionVectors, **given: Any) -> OpenChoices:
    """The choices of ``preset``, or those without one, and what was ``given``: fields, None if not.

    Raises SteeringError for an unknown preset, and for a choice that contradicts it.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if preset is None:
        return replace(OpenChoices(), **given)
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


def _spelled(choices: OpenChoices) -> str:
    named = {each.name: getattr(choices, each.name) for each in fields(choices)}
    if named["layers"] is None:
        named["layers"] = "all that the vectors have"
    return ", ".join(f"{name} {value}" for name, value in named.items())
