"""What can go wrong in a text that was written in a mood, and how often it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from emokernel.affect import Affect, Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.measure.fluency import LOOP
from emokernel.lab.measure.intervals import mean_interval
from emokernel.vectors.calibration import Calibration

UNSTEERED = "unsteered"
LOOPS, OFF_TOPIC, UNHEARD, IGNORED, CUT, REDRAWN = KINDS = (
    "loops", "off-topic", "mood not heard", "mood alone", "cut off", "drawn again",
)  # fmt: skip
# Of the unsteered answers, what is called off-topic.
_STRAYING = 5


@dataclass(frozen=True)
class Text:
    """An answer, and what was read in it.

    mood: the emotion, or `UNSTEERED`. cut: whether its length ended it. redrawn: samples before it
    that the word list blocked. repeated: share 0..1 of its 4-grams that were there before. topic:
    cosine of its sentence embedding and that of the question. top: the judge's top label, None for
    an empty answer.
    """

    mood: str
    question: str
    seed: int
    answer: str
    cut: bool
    redrawn: int
    repeated: float
    topic: float
    top: str | None


class Failures:
    """Which of `KINDS` a text shows.

    ``floor``: the topic that 95 % of the unsteered texts reach, or have above it.
    """

    def __init__(self, texts: Sequence[Text], places: Mapping[str, Affect]) -> None:
        """``texts``: unsteered ones among them. ``places``: of moods, and of labels that have any
        (`places_of`).
        """
        self._places = places
        plain = [text.topic for text in texts if text.mood == UNSTEERED]
        self.floor = float(np.percentile(plain, _STRAYING))

    def of(self, text: Text) -> set[str]:
        """All that went wrong in it; whether a mood was heard is asked of steered texts alone."""
        heard = text.mood != UNSTEERED and self.heard(text)
        strayed = text.topic < self.floor
        found = {
            LOOPS: text.repeated > LOOP,
            OFF_TOPIC: strayed,
            UNHEARD: text.mood != UNSTEERED and not heard,
            IGNORED: heard and strayed,
            CUT: text.cut,
            REDRAWN: text.redrawn > 0,
        }
        return {kind for kind, is_so in found.items() if is_so}

    def heard(self, text: Text) -> bool:
        """Whether the top label lies on the mood's half of the circle; one without a place does
        not.
        """
        asked, top = self._places[text.mood], self._places.get(text.top or "")
        if top is None:
            return False
        return asked.valence * top.valence + asked.arousal * top.arousal > 0

    def unheard(self, plain: Sequence[Text], moods: Sequence[str]) -> float:
        """The share 0..1 of unsteered texts in which a mood is not heard, the mean over moods."""
        return fmean(not self.heard(replace(text, mood=mood)) for text in plain for mood in moods)

    def counts(self, texts: Sequence[Text]) -> dict[str, int]:
        """How many of the texts show each of `KINDS`."""
        found = [self.of(text) for text in texts]
        return {kind: sum(kind in each for each in found) for kind in KINDS}

    def share(self, texts: Sequence[Text], kind: str) -> tuple[float, float, float]:
        """(share 0..1, low, high), 95 % by bootstrap over questions."""
        shown = [float(kind in self.of(text)) for text in texts]
        return mean_interval(shown, [text.question for text in texts])

    def example(self, texts: Sequence[Text], kind: str, but: Sequence[Text] = ()) -> Text | None:
        """The first steered text of a kind, of a mood that none of ``but`` has if there is one."""
        found = [text for text in texts if text.mood != UNSTEERED and kind in self.of(text)]
        moods = {text.mood for text in but}
        return next((text for text in found if text.mood not in moods), found[0] if found else None)


def places_of(
    calibration: Calibration, labels: Sequence[str], moods: Sequence[str]
) -> dict[str, Affect]:
    """Where moods, and those of a judge's labels that it has, lie in the table of a calibration.

    EmokernelError for a mood that lies nowhere.
    """
    own = {label: Affect(*point) for label, point in calibration.table.items()}
    table = Coordinates(own) if own else Coordinates.named(calibration.coordinates)
    places = {name: place for name in (*labels, *moods) if (place := table.get(name))}
    for mood in moods:
        if mood not in places:
            raise EmokernelError(
                f"{mood!r} has no place in the table {table.name!r}, so nobody can say whether it"
                " was heard: leave it out with --emotions"
            )
    return places
