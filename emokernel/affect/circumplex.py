"""Russell's circumplex of affect: points on it, and where emotion words lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

from emokernel.errors import EmokernelError


@dataclass(frozen=True)
class Affect:
    """A point of the circumplex: valence and arousal, both within the unit circle.

    Raises EmokernelError for coordinates that are not finite or lie outside the circle.
    """

    valence: float
    arousal: float

    def __post_init__(self) -> None:
        # The states of arXiv 2504.14706 are printed with three digits: (0.866, 0.5) is 0.99998.
        if not self.radius <= 1.001:
            raise EmokernelError(
                f"Affect(valence={self.valence}, arousal={self.arousal}) is not a point within the"
                " unit circle; use strength= for more than full strength"
            )

    @property
    def radius(self) -> float:
        """Distance from the neutral centre, 0..1."""
        return math.hypot(self.valence, self.arousal)

    @property
    def angle(self) -> float:
        """Degrees in [0, 360): 0 is pleasure (+valence), 90 is arousal (+arousal)."""
        return math.degrees(math.atan2(self.arousal, self.valence)) % 360.0


# The 12 states of arXiv 2504.14706: unit circle in steps of 30 degrees, (arousal, valence) =
# (cos 30k, sin 30k); the set follows from the paper's abstract, the order after the first two
# is our completion.
TWELVE_STATES = tuple(
    Affect(valence=math.sin(math.radians(30 * k)), arousal=math.cos(math.radians(30 * k)))
    for k in range(12)
)

# Angles in degrees, J. A. Russell 1980, JPSP 39:1161-1178. The first group is the circular scaling
# as quoted by public notes on the paper, the second is commonly quoted but unverified, the third
# are the paper's anchors.
RUSSELL_ANGLES = {
    "happy": 7.8, "delighted": 24.9, "excited": 48.6, "astonished": 69.8, "aroused": 73.8,
    "tense": 92.8, "alarmed": 96.5, "miserable": 188.7, "sad": 207.5, "droopy": 256.6,
    "tired": 267.7, "sleepy": 271.9, "calm": 316.2, "serene": 328.6, "pleased": 353.2,
    "angry": 99.0, "afraid": 116.0, "annoyed": 123.0, "distressed": 138.0, "frustrated": 141.0,
    "gloomy": 209.0, "depressed": 211.0, "bored": 242.0, "relaxed": 318.0, "satisfied": 319.0,
    "at ease": 321.0, "content": 323.0, "glad": 349.0,
    "displeasure": 180.0,
}  # fmt: skip

# The GoEmotions labels by Russell's terms. The correspondence is ours (the table of arXiv
# 2504.14706 is not public); labels without a fitting term (confusion, realization, neutral) have
# no angle.
RUSSELL_TERM = {
    "admiration": "delighted", "amusement": "happy", "anger": "angry", "annoyance": "annoyed",
    "approval": "satisfied", "caring": "content", "curiosity": "aroused", "desire": "excited",
    "disappointment": "gloomy", "disapproval": "frustrated", "disgust": "displeasure",
    "embarrassment": "distressed", "excitement": "excited", "fear": "afraid",
    "gratitude": "pleased", "grief": "miserable", "joy": "happy", "love": "delighted",
    "nervousness": "tense", "optimism": "glad", "pride": "pleased", "relief": "relaxed",
    "remorse": "depressed", "sadness": "sad", "surprise": "astonished",
}  # fmt: skip


def angle_of(emotion: str) -> float | None:
    """The angle in degrees of a GoEmotions label or a term of Russell's; None if it has none."""
    return RUSSELL_ANGLES.get(RUSSELL_TERM.get(emotion, emotion))
