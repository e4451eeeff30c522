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
from dataclasses import dataclass
from typing import Any, NamedTuple

from emokernel.choices import (
    DOSE,
    LAW,
    MAPPING,
    POSITIONS,
    SITE,
    DoseName,
    LawName,
    MappingName,
    PositionsName,
    SiteName,
)
from emokernel.errors import SteeringError
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import Calibration


class OpenChoices(NamedTuple):
    """The choices that `emokernel.patch` leaves open.

    ``site`` None: the vectors' own; ``layers`` None: all that the vectors have.
    """

    site: SiteName | None = None
    law: LawName = LAW.default
    dose: DoseName = DOSE.default
    layers: Sequence[int] | None = None
    positions: PositionsName = POSITIONS.default


# What each published method chooses.
PRESETS = {"emotion-vectors": OpenChoices("attention", "add", "absolute", None, "last")}


@dataclass(frozen=True, kw_only=True)
class Settled:
    """OpenChoices with nothing left open, and how the model is patched.

    ``calibration``: what says how much strength 1.0 is; None: the vectors as they are, and
    ``uncalibrated`` says why.
    """

    site: SiteName
    law: LawName
    dose: DoseName
    layers: list[int]
    positions: PositionsName
    mapping: MappingName
    calibration: Calibration | None
    uncalibrated: str
    fuse_norm: bool
    backend: str | None
    slots: int

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
    mapping: MappingName | None = None,
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
    given = {name: value for name, value in given.items() if value is not None}
    if "layers" in given:
        vectors.layers_to_steer(given["layers"])
    choices = OpenChoices() if preset is None else _preset(preset, vectors, given)
    choices = choices._replace(**given)
    calibration = vectors.calibration
    obstacle = _obstacle(vectors, preset, given)
    if calibrated and obstacle:
        raise SteeringError(f"calibrated=True, but {obstacle}")
    if calibration is None or obstacle or calibrated is False:
        calibration = None
    else:
        choices = choices._replace(
            site=SITE.check(calibration.site),
            law=LAW.check(given.get("law", calibration.law)),
            dose=DOSE.check(given.get("dose", calibration.dose)),
            layers=_steered(calibration),
        )
        mapping = mapping or MAPPING.check(calibration.mapping)
    return Settled(
        site=SITE.check(choices.site or vectors.site), law=LAW.check(choices.law),
        dose=DOSE.check(choices.dose), layers=vectors.layers_to_steer(choices.layers),
        positions=POSITIONS.check(choices.positions),
        mapping=MAPPING.check(mapping or MAPPING.default),
        calibration=calibration, uncalibrated=obstacle or "calibrated=False",
        fuse_norm=fuse_norm, backend=backend, slots=slots,
    )  # fmt: skip


def _steered(calibration: Calibration) -> list[int]:
    return [layer for layer, weight in enumerate(calibration.profile) if weight]


def _obstacle(vectors: EmotionVectors, preset: str | None, given: Mapping[str, Any]) -> str | None:
    """Why the calibration of the vectors cannot be used; None if it can."""
    calibration = vectors.calibration
    if calibration is None:
        return "the vectors have no calibration"
    if preset is not None:
        return f"the preset {preset!r} has doses of its own"
    if given.get("site", calibration.site) != calibration.site:
        return f"they were calibrated at site {calibration.site!r}"
    steered = _steered(calibration)
    if "layers" in given and sorted(set(given["layers"]) & set(vectors.layers)) != steered:
        return f"they were calibrated for the layers {steered}"
    return None


def _preset(name: str, vectors: EmotionVectors, given: Mapping[str, Any]) -> OpenChoices:
    """The choices of a preset; SteeringError for an unknown one, and for what contradicts it."""
    if not isinstance(name, str) or name not in PRESETS:
        raise SteeringError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    choices = PRESETS[name]._asdict() | {"layers": list(vectors.layers)}
    for what, value in given.items():
        # Layers in which the vectors are zero make no difference.
        asked = sorted(set(value) & set(vectors.layers)) if what == "layers" else value
        if asked != choices[what]:
            spelled = choices | {"layers": "all that the vectors have"}
            raise SteeringError(
                f"{what}={value!r} contradicts the preset {name!r}, which means"
                f" {', '.join(f'{each} {chosen}' for each, chosen in spelled.items())}:"
                f" leave {what} out, or give all of these without the preset"
            )
    return PRESETS[name]
