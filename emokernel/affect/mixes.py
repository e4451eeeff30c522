"""From what a request asks for to the components of a mix: names, points, strengths."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from emokernel.affect.axes import Axes
from emokernel.affect.circumplex import Affect, is_number
from emokernel.affect.coordinates import Coordinates
from emokernel.affect.wheel import Wheel
from emokernel.choices import MAPPING
from emokernel.errors import NoDoseError, SteeringError
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import Calibration, key_of

Emotion = str | Mapping[str, float] | Affect | None

# In the basis, beside emotions that a file may well call so.
_AXES = {"valence": "(valence axis)", "arousal": "(arousal axis)"}


class Mixer:
    """Resolves emotions into (vector number, weight) pairs of ``basis``.

    basis: the vectors, and behind them the two axes of the circumplex where the mapping needs them.
    With a calibration, strength 1.0 of an emotion is the weight that it says, and a point of full
    intensity the mix that it says; without one they are the vectors as they are.
    """

    def __init__(
        self,
        vectors: EmotionVectors,
        calibration: Calibration | None = None,
        mapping: str = MAPPING.default,
        coordinates: Coordinates | str | None = None,
    ) -> None:
        """``coordinates``: those of the calibration, or "russell", unless given.

        SteeringError for an unknown mapping; what the axes refuse, `Axes` says.
        """
        MAPPING.check(mapping)
        if coordinates is None:
            coordinates = _table_of(calibration) if calibration else "russell"
        if isinstance(coordinates, str):
            coordinates = Coordinates.named(coordinates)
        self.vectors, self.mapping, self.coordinates = vectors, mapping, coordinates
        self.calibration = calibration
        self._circumplex: Wheel | Axes | None = None
        self.basis = vectors
        if mapping == "axes":
            self._circumplex = Axes(vectors, coordinates)
            self.basis = vectors.merged(self._circumplex.vectors.renamed(_AXES))

    @property
    def profile(self) -> Tensor | None:
        """``[L]``, what the calibration multiplies the weights of each layer with."""
        profile = self.calibration and self.calibration.profile
        return torch.tensor(profile, dtype=torch.float32) if profile else None

    def components(
        self, emotion: Emotion, strength: float, law: str, dose: str
    ) -> tuple[tuple[int, float], ...]:
        """What ``emotion`` is at ``strength``; none for None and for the neutral point.

        UnknownEmotionError, or SteeringError for what is no mix or has not been calibrated.
        """
        if not is_number(strength):
            raise SteeringError(f"strength must be a finite number, got {strength!r}")
        if emotion is None:
            return ()
        if isinstance(emotion, Affect):
            parts, what = self._of_point(emotion, law, dose), str(emotion)
        else:
            emotion = {emotion: 1.0} if isinstance(emotion, str) else emotion
            if not isinstance(emotion, Mapping):
                raise SteeringError(
                    f"an emotion is a name, {{name: weight}}, an Affect or None, got {emotion!r}"
                )
            parts, what = self._of_names(emotion, law, dose), ", ".join(map(repr, emotion))
        if parts and not any(full for _, _, full in parts):
            raise NoDoseError(
                f"no dose within the bounds of the calibration moves the model towards {what} under"
                f" law={law!r}, dose={dose!r}: calibrate with wider bounds, or patch with"
                " calibrated=False"
            )
        return tuple((number, weight * full * strength) for number, weight, full in parts)

    def _of_names(
        self, emotion: Mapping[str, float], law: str, dose: str
    ) -> list[tuple[int, float, float]]:
        """(Number of the vector, weight that was asked for, what 1.0 of it is as a weight)."""
        for name, weight in emotion.items():
            if not is_number(weight):
                raise SteeringError(f"the weight of {name!r} must be a finite number: {weight!r}")
        return [
            (self.vectors.index(name), float(weight), self._full(name, law, dose))
            for name, weight in emotion.items()
        ]

    def _of_point(self, affect: Affect, law: str, dose: str) -> list[tuple[int, float, float]]:
        """As `_of_names`, of what the mapping gives."""
        if self._circumplex is None:
            self._circumplex = Wheel(self.vectors.names, self.coordinates)
        factor, weights = self._factor(affect, law, dose), self._circumplex.mix(affect)
        if self.mapping == "axes":
            return [(self.basis.index(_AXES[axis]), w, factor) for axis, w in weights.items()]
        return [
            (self.vectors.index(name), weight, factor * self._full(name, law, dose))
            for name, weight in weights.items()
        ]

    def _full(self, name: str, law: str, dose: str) -> float:
        """The weight that strength 1.0 of an emotion is."""
        if self.calibration is None:
            return 1.0
        strengths = self.calibration.strengths.get(key_of(law, dose))
        if strengths is None or name not in strengths:
            raise SteeringError(
                f"{name!r} has not been calibrated for law={law!r}, dose={dose!r}: calibrate it"
                " (emokernel calibrate), or patch with calibrated=False, where strength 1.0 is the"
                " vector as it is"
            )
        return strengths[name]

    def _factor(self, affect: Affect, law: str, dose: str) -> float:
        if self.calibration is None or affect.radius == 0:
            return 1.0
        key = key_of(law, dose, self.mapping)
        same_table = self.coordinates.points == _table_of(self.calibration).points
        factor = self.calibration.factor(key, affect.angle) if same_table else None
        if factor is not None:
            return factor
        if self.mapping == "wheel":
            return 1.0  # the emotions' own strengths are in the mix
        raise SteeringError(
            f"the circumplex has not been calibrated for {key} with the coordinates"
            f" {self.coordinates.name!r}: use mapping='wheel', or patch with calibrated=False"
        )


def _table_of(calibration: Calibration) -> Coordinates:
    if calibration.table:
        points = {label: Affect(*point) for label, point in calibration.table.items()}
        return Coordinates(points, calibration.coordinates)
    return Coordinates.named(calibration.coordinates)
