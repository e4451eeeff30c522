"""Emotions as words: which one stands for a state, and how it is said to be felt."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from emokernel.affect import Affect, Coordinates
from emokernel.errors import EmokernelError

# Intensity: how it is said before an adjective, and before the word "feeling".
DEGREES: dict[float, tuple[str, str]] = {
    0.25: ("slightly", "a slight"),
    0.5: ("moderately", "a moderate"),
    0.75: ("strongly", "a strong"),
    1.0: ("extremely", "an extreme"),
}


@cache
def adjectives() -> tuple[str, ...]:
    """Russell's adjectives, in the order of the table "russell".

    The labels with an angle of their own (not those of GoEmotions, which have that of a term),
    without the anchors of the article's abstract, which are nouns.
    """
    facts = Coordinates.named("russell").facts
    return tuple(
        label
        for label, fact in facts.items()
        if "term" not in fact and fact["attested"] != "anchor"
    )


def adjective_of(state: Affect) -> str:
    """The one of `adjectives` whose angle is nearest to that of a state."""
    return nearest(state, adjectives(), Coordinates.named("russell"))


def nearest(state: Affect, names: Iterable[str], coordinates: Coordinates) -> str:
    """The one of ``names`` whose angle in a table is nearest; of equally near ones the first.

    Names without an angle are passed over. EmokernelError if none has one, or for a state at the
    neutral centre, which has no angle.
    """
    if state.radius < 1e-9:
        raise EmokernelError(
            "no word is nearest to the neutral centre: ask for a state with a direction, or for"
            " nothing"
        )
    apart = {
        name: abs((angle - state.angle + 180.0) % 360.0 - 180.0)
        for name in names
        if (angle := coordinates.angle(name)) is not None
    }
    if not apart:
        raise EmokernelError(
            f"the table {coordinates.name!r} has no place for any emotion that can be asked for:"
            " choose another table, or extend it"
        )
    # Rounded, so that at 210 degrees the words at 209 and 211 are equally near.
    return min(apart, key=lambda name: round(apart[name], 6))


def feels(emotion: str, intensity: float) -> str:
    """What is said of a person: "feels slightly tense", "has a slight feeling of fear".

    ``intensity``: one of `DEGREES`. An emotion that is none of `adjectives` is taken for a noun.
    """
    adverb, adjective = DEGREES[intensity]
    if emotion in adjectives():
        return f"feels {adverb} {emotion}"
    return f"has {adjective} feeling of {emotion}"
