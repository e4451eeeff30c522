"""The emotions that the embedded model can be asked for by a prefix token."""

from __future__ import annotations

from emokernel.errors import UnknownEmotionError

CONDITIONS = tuple(
    "neutral anger disgust fear joy sadness surprise admiration amusement caring curiosity"
    " gratitude love optimism remorse".split()
)


def prefix(emotion: str) -> str:
    """The token that conditions the embedded model on `emotion`, for example `<|joy|>`."""
    if emotion not in CONDITIONS:
        raise UnknownEmotionError(emotion, CONDITIONS)
    return f"<|{emotion}|>"
