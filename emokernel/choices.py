"""What may be chosen, by name, and checked at this one door; published methods as presets.

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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from emokernel.errors import EmokernelError, SteeringError
from emokernel.reference import Law

if TYPE_CHECKING:
    from emokernel.vectors import EmotionVectors
    from emokernel.vectors.calibration import Calibration

Value = TypeVar("Value")


class Choice(Mapping[str, Value], Generic[Value]):
    """The names that one thing may be called by, and what each of them means.

    The first is what holds where nothing is said.
    """

    def __init__(self, what: str, **values: Value) -> None:
        self.what, self._values = what, values

    def check(self, name: str) -> str:
        """``name`` itself, or SteeringError if there is no such choice."""
        if name not in self:
            raise SteeringError(f"unknown {self.what} {name!r}: choose one of {', '.join(self)}")
        return name

    @property
    def default(self) -> str:
        """The first of the names."""
        return next(iter(self))

    def __getitem__(self, name: str) -> Value:
        return self._values[self.check(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._values


# How a row is changed (`emokernel.reference`), and in what unit weights count: bits of a slot.
LAW = Choice("law", preserve=Law.PRESERVE, add=Law.ADD)
DOSE = Choice("dose", absolute=Law.ADD, relative=Law.RELATIVE)
# What rows are steered, of the tokens of a sequence: prompt, last prompt token, generated.
POSITIONS = Choice(
    "positions",
    all=(True, True, True),
    prompt=(True, True, False),
    generated=(False, False, True),
    last=(False, True, True),
)
# Where in a block, and in which space its vectors live.
SITE = Choice("site", attention="behind the attention branch", block="at the end of the block")
# How a point of the circumplex becomes a mix.
MAPPING = Choice("mapping", wheel="the neighbouring emotions", axes="valence and arousal")


def law_bits(law: str, dose: str) -> Law:
    """What the slots of a law and a dose hold; SteeringError for an unknown name."""
    return LAW[law] | DOSE[dose]


@dataclass(frozen=True)
class Choices:
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
    choices: Choices


PRESETS = {
    "emotion-vectors": Preset(
        "Controllable Emotion Generation with Emotion Vectors, arXiv 2502.04075",
        Choices(site="attention", law="add", dose="absolute", layers=None, positions="last"),
    ),
}


@dataclass(frozen=True)
class Settled(Choices):
    """Choices with nothing left open.

    ``calibration``: what says how much strength 1.0 is; None: the vectors as they are, and
    ``uncalibrated`` says why.
    """

    site: str
    layers: list[int]
    mapping: str = MAPPING.default
    calibration: Calibration | None = None
    uncalibrated: str = ""

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
    **given: Any,
) -> Settled:
    """What `emokernel.patch` does with ``given``: fields of `Choices`, None where left open.

    Raises SteeringError for an unknown choice, or one that contradicts the preset, or
    ``calibrated=True`` where the calibration cannot be used.
    """
    choices = choose(preset, vectors, **given)
    if given.get("layers") is not None:
        check_layers(vectors, given["layers"])
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
        layers=check_layers(vectors, choices.layers), positions=POSITIONS.check(choices.positions),
        mapping=MAPPING.check(mapping or MAPPING.default), calibration=calibration,
        uncalibrated=obstacle or "calibrated=False",
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


def check_layers(vectors: EmotionVectors, layers: Sequence[int] | None) -> list[int]:
    """The layers to steer, sorted: ``layers``, or all that the vectors have.

    EmokernelError for what is no list of layer numbers, or where there is nothing to steer.
    """
    if layers is None:
        chosen = list(vectors.layers)
    else:
        if not isinstance(layers, Iterable) or not all(isinstance(n, int) for n in layers):
            raise EmokernelError(f"layers needs a list of layer numbers, got {layers!r}")
        chosen = sorted(set(layers))
        unknown = [layer for layer in chosen if not 0 <= layer < vectors.num_layers]
        if unknown:
            raise EmokernelError(
                f"no such layers: {unknown}; these vectors have 0 to {vectors.num_layers - 1}"
            )
    if not vectors.layers:
        raise EmokernelError(
            "there is no layer to steer: the vectors are zero in all of them; extract them again"
        )
    if set(chosen).isdisjoint(vectors.layers):
        raise EmokernelError(
            f"there is no layer to steer: the vectors are zero in layers {chosen}, other than in"
            f" {list(vectors.layers)}"
        )
    return chosen


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
