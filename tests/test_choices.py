"""The names of what may be chosen are plain strings, one list for people and for type checkers."""

from __future__ import annotations

from typing import get_args

import pytest

from emokernel import Request, choices
from emokernel.errors import SteeringError

TABLES = {
    choices.LawName: choices.LAW,
    choices.DoseName: choices.DOSE,
    choices.PositionsName: choices.POSITIONS,
    choices.SiteName: choices.SITE,
    choices.MappingName: choices.MAPPING,
}


@pytest.mark.parametrize("names", TABLES)
def test_a_type_has_the_names_of_its_table(names):
    assert get_args(names) == tuple(TABLES[names])
    assert TABLES[names].default == get_args(names)[0]


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.what)
def test_names_are_plain_strings_checked_at_one_door(table):
    for name in table:
        assert type(name) is str
        assert f"{name}" == str(name) == table.check(name)
    for wrong in ("keep", "", 3, None, ["all"]):
        with pytest.raises(SteeringError, match=f"unknown {table.what} .*choose one of"):
            table.check(wrong)


def test_a_request_holds_what_it_was_given():
    assert repr(Request("joy", law="add")).count("'add'") == 1
