"""Valence and arousal: points on Russell's circumplex and the emotions around it.

`Coordinates` says where a table puts emotions, `Wheel` and `Axes` turn an `Affect` into a mix.
"""

from emokernel.affect.axes import Axes
from emokernel.affect.circumplex import TWELVE_STATES, Affect
from emokernel.affect.coordinates import TABLES, Coordinates
from emokernel.affect.wheel import Wheel
from emokernel.moved import renamed

__all__ = [
    "TABLES",
    "TWELVE_STATES",
    "Affect",
    "Axes",
    "Coordinates",
    "Wheel",
]

__getattr__ = renamed(__name__)
