"""Colours and marks. Both differ, and most lightness too, for print and colour-blind readers."""

from __future__ import annotations

from emokernel.lab.evaluate.results import BOTH, PROMPT, UNSTEERED, VECTOR
from emokernel.lab.report.plots.chart import Look
from emokernel.lab.report.view import ADD, NAMES, PRESERVE

# After Okabe and Ito's palette, some darker than there.
MODES = {
    UNSTEERED: Look(NAMES[UNSTEERED], "#8a8f98", "D"),
    PROMPT: Look(NAMES[PROMPT], "#00568f", "s"),
    VECTOR: Look(NAMES[VECTOR], "#d55e00", "o"),
    BOTH: Look(NAMES[BOTH], "#009e73", "^"),
}
_LAWS = {ADD: Look(ADD, "#a87900", "s", "--"), PRESERVE: Look(PRESERVE, "#7a1f5c", "o")}
# The prompt where it is a level beside curves.
PROMPTED = Look(NAMES[PROMPT], "#00568f", "")
CEILING = Look("ceiling (human text)", "#111827", "", "-.")
FLOOR = Look("floor (states shuffled)", "#6b7280", "", ":")
ZERO = Look("", "#6b7280", "")
# Levels of topic adherence, by their keys in what is known of the topic.
TOPIC = {
    "other_seed": Look("two unsteered answers to one opening", "#111827", "", "-."),
    "other_query": Look("unsteered answers to two openings", "#6b7280", "", ":"),
}


def law_look(law: str) -> Look:
    """The look of a law, a grey one for a law that has none."""
    return _LAWS.get(law, Look(law, "#374151", "v", "-."))
