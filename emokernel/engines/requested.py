"""What is asked of one patched model, resolved to slots: written by those who ask, read by engines.

By `set`, which holds wherever nothing else does, or by the requests of a block, which hold in its
context.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from emokernel.engines.callers import Callers, Requests
from emokernel.engines.closing import finish
from emokernel.engines.open_blocks import OpenBlocks
from emokernel.engines.plan import BatchPlan, RecordedPrompts
from emokernel.engines.texts import Generation
from emokernel.errors import SteeringError
from emokernel.state import Asked, Kinds, MixSlots, ModelState

# `set` writes into the one that nothing points to.
_SLOTS_OF_SET = range(2)

# (whose, what it was given) of the innermost `generate` that runs in this context.
_running: ContextVar[tuple[Requested, Generation] | None] = ContextVar("generation", default=None)


@dataclass(frozen=True)
class OfSet:
    """What `set` has chosen; ``entry`` is how it was said."""

    entry: Any
    asked: Asked
    plan: BatchPlan


class Requested:
    """What is asked of one patched model; for any thread."""

    def __init__(self, slots: int, resolve: Callable[[Any], Asked], kinds: Kinds) -> None:
        """``slots``: how many mixes requests can hold. ``resolve(entry)``: what an entry asks for.

        ``kinds``: those of requests that do not say.
        """
        self.states = ModelState()
        self.sequences, self._kinds, self._resolve = slots, kinds, resolve
        first = len(_SLOTS_OF_SET)
        self.num_slots = first + slots
        write, retire = self.states.write, self.states.retire
        self.slots = MixSlots(range(first, self.num_slots), write, retire)
        self.slots_of_set = MixSlots(_SLOTS_OF_SET, write, retire)
        self.of_set: OfSet | None = None
        self._setting = threading.Lock()
        self.blocks: OpenBlocks[Requests] = OpenBlocks(self.states.lock)
        self.callers = Callers(self.states, self.blocks)
        self.ended = False

    def end(self) -> None:
        """The model is unpatched: nothing can be asked of it any more."""
        self.ended = True
        self.states.devices.clear()

    def check_patched(self) -> None:
        """SteeringError once the model is unpatched."""
        if self.ended:
            raise SteeringError("the model was unpatched: call emokernel.patch again")

    def resolve(self, entry: Any) -> Asked:
        """What an entry asks for: an error for what is none, or once the model is unpatched."""
        self.check_patched()
        return self._resolve(entry)

    def set(self, entry: Any) -> None:
        """Ask for ``entry`` wherever no block is open; nothing changes if that fails."""
        asked = self.resolve(entry)
        if asked.mix is None:
            self.off()
            return
        with self._setting:
            slot = self.slots_of_set.hold([asked.mix])[asked.mix]
            try:
                self._show(OfSet(entry, asked, BatchPlan([slot], [asked.kinds])))
            except BaseException:
                self.slots_of_set.release([asked.mix])
                raise

    def off(self) -> None:
        """Undo `set`."""
        self.check_patched()
        with self._setting:
            self._show(None)

    def _show(self, chosen: OfSet | None) -> None:
        before = self.of_set
        self.callers.put(self, "of_set", chosen)
        if before is not None:
            self.slots_of_set.release([before.asked.mix])

    def open(self, block: Requests) -> None:
        """The requests of ``block`` hold in this context; SteeringError if they cannot."""
        self.callers.enter(block)
        try:
            self.blocks.enter(block)
        except BaseException as error:
            finish(error, partial(self.callers.leave, block, error))
            raise

    def close(
        self, block: Requests, error: BaseException | None, release: Callable[[], None]
    ) -> None:
        """They hold nowhere any more, and then ``release`` is called; as `Callers.leave`."""
        leave = partial(self.callers.leave, block, error)
        finish(error, partial(self.blocks.leave, block), leave, release)

    @contextmanager
    def generating(self, generation: Generation) -> Iterator[None]:
        """While a generation runs; what goes wrong within is what is raised."""
        token = _running.set((self, generation))
        try:
            self.blocks.current()  # what cannot hold here is told before anything runs
            self.callers.enter(generation)
            try:
                yield
            except BaseException as error:
                self.callers.leave(generation, error)
                raise
            self.callers.leave(generation)
        finally:
            generation.ended = True
            _running.reset(token)

    def generation(self) -> Generation | None:
        """The `generate` of the model that runs in this context.

        One that has ended may be left in a copy of its context.
        """
        running = _running.get()
        return running[1] if running and running[0] is self and not running[1].ended else None

    def plan(self) -> BatchPlan | None:
        """What is asked for in this thread: by the requests that hold in it, else by `set`."""
        block = self.blocks.current()
        plan = self._plan_of_set() if block is None else block.plan
        return None if plan is None or plan.asks_nothing else plan

    def _plan_of_set(self) -> BatchPlan | None:
        chosen = self.of_set
        return None if chosen is None else chosen.plan

    def entries(self) -> list[Asked]:
        """The same as entries, one for each prompt or one for all."""
        if (block := self.blocks.current()) is not None:
            return block.for_batching()
        chosen = self.of_set
        return [Asked(None, self._kinds) if chosen is None else chosen.asked]

    def of_one_caller(self) -> tuple[BatchPlan | None, RecordedPrompts | None]:
        """The plan and the prompts of the one caller there is, in whatever thread.

        SteeringError if there are several, or if the prompts cannot be told without Python.
        """
        plan, generation = self.callers.one(self._plan_of_set())
        if plan is None or plan.asks_nothing:
            return None, None
        return plan, generation.traced_prompts() if generation is not None else None
