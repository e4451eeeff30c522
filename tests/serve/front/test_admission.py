"""No place is ever lost or given twice, and the first to come is the first to be served."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emokernel import EmokernelError
from emokernel.serve.front.admission import Admission
from emokernel.serve.front.errors import BusyError, DrainingError
from emokernel.serve.front.refusals import refusal


class Asking:
    """Somebody who takes places and keeps them until `done` is set."""

    def __init__(self, admission, rows=1, order=None):
        self.rows, self.admitted, self.done = rows, False, asyncio.Event()
        self._order = order
        self.task = asyncio.ensure_future(self._ask(admission))

    async def _ask(self, admission):
        async with admission.place(self.rows):
            self.admitted = True
            if self._order is not None:
                self._order.append(self)
            await self.done.wait()


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def test_the_first_to_come_is_the_first_to_be_served():
    async def run():
        admission, order = Admission(1, 10), []
        asking = []
        for _ in range(5):
            asking.append(Asking(admission, order=order))
            await turns()
        assert (admission.running, admission.waiting) == (1, 4)
        for each in asking:
            each.done.set()
            await each.task
        assert order == asking
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(run())


def test_many_rows_are_not_overtaken_and_keep_nobody_waiting_for_more_than_their_turn():
    async def run():
        admission = Admission(4, 10)
        first = [Asking(admission), Asking(admission)]
        await turns()
        many = Asking(admission, rows=4)
        await turns()
        few = Asking(admission)
        await turns()
        assert not many.admitted
        assert not few.admitted, "two places are free, but somebody waits for four"
        for each in first:
            each.done.set()
        await turns()
        assert many.admitted
        assert (admission.running, few.admitted) == (4, False)
        many.done.set()
        await turns()
        assert few.admitted
        few.task.cancel()
        await turns()
        assert admission.running == 0

    asyncio.run(run())


def test_who_leaves_the_queue_makes_room_for_those_behind():
    async def run():
        admission = Admission(4, 10)
        one = Asking(admission)
        await turns()
        many, few = Asking(admission, rows=4), Asking(admission, rows=3)
        await turns()
        many.task.cancel()
        await turns()
        assert few.admitted, "nobody is before it any more"
        for each in (one, few):
            each.done.set()
        await turns()
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(run())


def test_who_leaves_at_the_moment_of_being_admitted_loses_no_place():
    async def run():
        admission = Admission(1, 10)
        one = Asking(admission)
        await turns()
        two = Asking(admission)
        await turns()
        one.done.set()
        while admission.waiting:
            await asyncio.sleep(0)
        assert not two.admitted
        two.task.cancel()
        await turns()
        assert (admission.running, two.admitted) == (0, False)

    asyncio.run(run())


def test_what_fails_gives_its_places_back():
    async def run():
        admission = Admission(3, 0)
        with pytest.raises(ZeroDivisionError):
            async with admission.place(3):
                raise ZeroDivisionError
        assert admission.running == 0

    asyncio.run(run())


def test_a_full_queue_says_when_to_come_back():
    now = [0.0]

    async def run():
        admission = Admission(2, 1, clock=lambda: now[0])
        for _ in range(2):  # each takes 7 seconds
            async with admission.place():
                now[0] += 7
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(admission.place(2))
            waiting = Asking(admission)
            await turns()
            with pytest.raises(BusyError, match="1 requests wait") as raised:
                await stack.enter_async_context(admission.place())
            # Two places are taken and one more is wanted, two at a time: 7 * 3 / 2.
            assert raised.value.retry_after == 11
            answer = refusal(raised.value)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "11")
            waiting.task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("took", [0.0, 1e6])
def test_when_to_come_back_is_neither_now_nor_never(took):
    now = [0.0]

    async def run():
        admission = Admission(1, 1, clock=lambda: now[0])
        async with admission.place():
            now[0] += took
        async with admission.place():
            assert 1 <= admission.retry_after() <= 120

    asyncio.run(run())


@pytest.mark.parametrize("rows", [0, -1, 3])
def test_more_rows_than_there_are_places_are_refused_at_once(rows):
    async def run():
        admission = Admission(2, 1)
        with pytest.raises(EmokernelError, match="2 at most"):
            async with admission.place(rows):
                pass
        assert admission.running == 0

    asyncio.run(run())


def test_draining_lets_end_what_runs_and_sends_all_others_away():
    async def run():
        admission = Admission(1, 10)
        runs = Asking(admission)
        await turns()
        waits = Asking(admission)
        await turns()
        admission.begin_draining()
        comes = Asking(admission)
        await turns()
        assert runs.admitted
        for each in (waits, comes):
            with pytest.raises(DrainingError):
                await each.task
        assert not await admission.drained(0.01)
        runs.done.set()
        assert await admission.drained(1)
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(run())


PLACES = 5


class Places(RuleBasedStateMachine):
    """Whatever people do, in whatever order."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.order, self.came = [], []
        self.admission = self.run(self._make())

    async def _make(self):
        return Admission(PLACES, 3)

    def run(self, awaited):
        return self.loop.run_until_complete(awaited)

    @property
    def here(self):
        return [each for each in self.came if not each.task.done()]

    @rule(rows=st.integers(1, PLACES), soon=st.booleans())
    def come(self, rows, soon):
        async def come():
            self.came.append(Asking(self.admission, rows, self.order))
            await turns(0 if soon else 5)

        self.run(come())

    @rule(number=st.integers(0, 20), soon=st.booleans())
    def end(self, number, soon):
        async def end():
            if self.here:
                self.here[number % len(self.here)].done.set()
                await turns(number % 3 if soon else 5)

        self.run(end())

    @rule(number=st.integers(0, 20), soon=st.booleans())
    def leave(self, number, soon):
        async def leave():
            if self.here:
                self.here[number % len(self.here)].task.cancel()
                await turns(number % 3 if soon else 5)

        self.run(leave())

    @invariant()
    def places_are_neither_lost_nor_given_twice(self):
        assert 0 <= self.admission.running <= PLACES
        self.run(turns())
        held = sum(each.rows for each in self.here if each.admitted)
        queued = [each for each in self.here if not each.admitted]
        assert self.admission.running == held
        assert self.admission.waiting == len(queued) <= 3
        if queued:
            assert held + queued[0].rows > PLACES, "it could be served"

    @invariant()
    def the_order_is_kept(self):
        assert self.order == [each for each in self.came if each.admitted]

    def teardown(self):
        async def leave():
            for each in self.here:
                each.task.cancel()
            await turns()

        self.run(leave())
        assert (self.admission.running, self.admission.waiting) == (0, 0)
        for each in self.came:
            if not each.task.cancelled() and each.task.exception():
                assert isinstance(each.task.exception(), BusyError)
        self.loop.close()


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
