"""Valence and arousal: points on Russell's circumplex and the emotions around it."""

from emokernel.affect.circumplex import TWELVE_STATES, Affect, angle_of
from emokernel.affect.mixing import mix_for

__all__ = ["TWELVE_STATES", "Affect", "angle_of", "mix_for"]
