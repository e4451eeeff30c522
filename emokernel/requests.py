"""Requests: what one sequence of a batch asks for, and how that becomes a mix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from emokernel.affect.mixes import Emotion, Mixer
from emokernel.choices import POSITIONS, DoseName, LawName, PositionsName, law_bits
from emokernel.errors import SteeringError, ranges
from emokernel.presets import Settled
from emokernel.reference import Law
from emokernel.state import Asked, Mix


@dataclass(frozen=True)
class Request:
    """What one sequence of a batch asks for; None means the choice made at `patch`."""

    emotion: Emotion
    strength: float = 1.0
    law: LawName | None = None
    dose: DoseName | None = None
    positions: PositionsName | None = None


class Resolver:
    """From what a request says to its mix and the kinds of token that it steers."""

    def __init__(self, mixer: Mixer, choices: Settled) -> None:
        """``choices``: what requests leave open, and the layers that are steered."""
        self.mixer, self.choices = mixer, choices
        # Of each vector, whether it is anything in a steered layer.
        self._present = mixer.basis.tensor[choices.layers].any(-1).any(0).tolist()

    def __call__(self, entry: Emotion | Request) -> Asked:
        """What it asks for; UnknownEmotionError, or SteeringError for what is no request."""
        request = entry if isinstance(entry, Request) else Request(entry)
        law, dose = request.law or self.choices.law, request.dose or self.choices.dose
        bits = law_bits(law, dose)
        kinds = POSITIONS[request.positions or self.choices.positions]
        components = self.mixer.components(request.emotion, request.strength, law, dose)
        asked = [number for number, weight in components if weight]
        if asked and not any(self._present[number] for number in asked):
            raise SteeringError(
                f"{request.emotion!r} is zero in every steered layer"
                f" ({ranges(self.choices.layers)}): patch other layers, or extract it again"
            )
        return Asked(Mix(components, bits) if components else None, kinds)

    @cached_property
    def _lengths(self) -> Tensor:
        """The norms of the vectors in the steered layers ``[layers, E]``, fp64."""
        return self.mixer.basis.tensor[self.choices.layers].norm(dim=-1).double()

    def reach(self, entry: Emotion | Request, norm: float) -> float:
        """The norm that a row of ``norm`` may have behind all steered layers, by steering alone.

        An upper bound: as if all vectors pointed the same way. UnknownEmotionError, or
        SteeringError for what is no request.
        """
        mix = self(entry).mix
        if mix is None or mix.law & Law.PRESERVE:
            return norm
        is_relative = bool(mix.law & Law.RELATIVE)
        lengths = (self._lengths > 0).double() if is_relative else self._lengths
        if self.mixer.profile is not None:
            lengths = lengths * self.mixer.profile[self.choices.layers].abs()[:, None]
        added = sum(abs(weight) * lengths[:, number] for number, weight in mix.components)
        assert isinstance(added, Tensor)
        return norm * float((1 + added).prod()) if is_relative else norm + float(added.sum())
