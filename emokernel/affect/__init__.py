"""Valence and arousal: points on Russell's circumplex and the emotions around it.

`Coordinates` says where a table puts emotions, `Wheel` and `Axes` turn an `Affect` into a mix, and
`positions_of` says where the emotions of a model really lie.
"""

from emokernel.affect.axes import Axes
from emokernel.affect.circumplex import TWELVE_STATES, Affect
from emokernel.affect.coordinates import TABLES, Coordinates, angle_of
from emokernel.affect.positions import Agreement, agreement, positions_of
from emokernel.affect.wheel import Wheel

__all__ = [
    "TABLES",
    "TWELVE_STATES",
    "Affect",
    "Agreement",
    "Axes",
    "Coordinates",
    "Wheel",
    "agreement",
    "angle_of",
    "positions_of",
]
