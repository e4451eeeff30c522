"""Texts end before a stop, wherever its pieces fall."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel.errors import EmokernelError
from emokernel.serve.engine.texts import Pieces, UntilStop, before_stop

LETTERS = st.text("abc", max_size=12)
STOPS = st.lists(st.text("abc", min_size=1, max_size=4), min_size=0, max_size=3)


@given(st.lists(LETTERS, max_size=8), STOPS)
def test_pieces_give_what_the_whole_text_gives(pieces, stops):
    until, sent, left = UntilStop(stops), "", []
    for piece in pieces:
        left.append(piece)
        sent += until.feed(piece)
        if until.reached:
            break
    if not until.reached:
        sent += until.rest()
    assert sent == before_stop("".join(left), stops)
    assert until.reached == (len(sent) < len("".join(left)))


@given(st.lists(LETTERS, max_size=8), STOPS)
def test_nothing_is_kept_back_that_begins_no_stop(pieces, stops):
    until, fed, sent = UntilStop(stops), "", ""
    for piece in pieces:
        fed += piece
        sent += until.feed(piece)
        if until.reached:
            return
        kept = fed[len(sent) :]
        assert not kept or any(stop.startswith(kept) for stop in stops)


def test_what_failed_is_raised_after_what_came_before():
    async def read():
        pieces = Pieces()
        pieces.put("a")
        pieces.put("b")
        pieces.fail(EmokernelError("no more"))
        got = [await pieces.get(), pieces.get_nowait()]
        with pytest.raises(asyncio.QueueEmpty):
            pieces.get_nowait()
        with pytest.raises(EmokernelError, match="no more"):
            await pieces.get()
        return got

    assert asyncio.run(read()) == ["a", "b"]
