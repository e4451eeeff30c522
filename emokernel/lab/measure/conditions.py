"""The emotions that the embedded model can be asked for by a prefix token."""

from __future__ import annotations

from difflib import get_close_matches

CONDITIONS = tuple(
    "neutral anger disgust fear joy sadness surprise admiration amusement caring curiosity"
    " gratitude love optimism remorse".split()
)


def prefix(emotion: str) -> str:
    """The token that conditions the embedded model on `emotion`, for example `<|joy|>`."""
    if emotion not in CONDITIONS:
        near = get_close_matches(emotion, CONDITIONS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"the embedded model has no condition {emotion!r}; {hint}known: {', '.join(CONDITIONS)}"
        )
    return f"<|{emotion}|>"
