"""Texts beside each other: what fits a width, and what there is without one."""

from __future__ import annotations

import pytest

from emokernel.commands.columns import side_by_side

TEXTS = {
    "unsteered": "It was a day like any other, and nothing came of it.",
    "joy": "What a day!\n\nI could \x1b[31msing.",
    "sadness": "I would rather not speak about it, it has been too long a day for me.",
    "a name that is far longer than a column": "Yes.",
}


def test_without_a_width_each_text_is_a_line():
    lines = list(side_by_side(TEXTS, None))
    assert len(lines) == len(TEXTS) + 1
    assert lines[0].endswith("  It was a day like any other, and nothing came of it.")
    assert lines[1].split(maxsplit=1) == ["joy", "What a day! I could [31msing."]


@pytest.mark.parametrize(("width", "columns"), [(1, 1), (40, 1), (50, 2), (80, 3), (200, 4)])
def test_columns_fit_the_width_and_every_word_is_there(width, columns):
    lines = list(side_by_side(TEXTS, width))
    assert max(map(len, lines)) <= max(width, 1)
    rules = [len(line.split()) for line in lines if line.startswith("-")]
    assert rules == [columns] * (4 // columns) + [4 % columns] * bool(4 % columns)
    if columns == 1 and width > 10:
        assert " ".join(lines[2:]).startswith("It was a day like any other, and nothing came")


def test_texts_stand_below_their_heads():
    head, rule, first, *_ = side_by_side(TEXTS, 80)
    at = head.index("joy")
    assert rule[at - 2 : at + 1] == "  -"
    assert first[at:].startswith("What a day! I could")
