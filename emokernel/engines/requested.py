"""What is asked of one patched model, resolved to slots: written by those who ask, read by engines.

By `set`, which holds wherever nothing else does, or by the requests of a block, which hold in its
context.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from emokernel.engines.callers import Callers
from emokernel.engines.plan import BatchPlan, RecordedPrompts
from emokernel.engines.texts import Generation
from emokernel.errors import SteeringError
from emokernel.state import UNTOUCHED, Asked, Kinds, MixSlots, ModelState

# `set` writes into the one that nothing points to.
_SLOTS_OF_SET = range(2)


@dataclass(frozen=True)
class OfSet:
    """What `set` has chosen; ``entry`` is how it was said."""

    entry: object
    asked: Asked
    plan: BatchPlan


class Requested:
    """What is asked of one patched model; for any thread."""

    def __init__(self, slots: int, resolve: Callable[[Any], Asked], kinds: Kinds) -> None:
        """``slots``: how many mixes requests can hold. ``resolve(entry)``: what an entry asks for.

        ``kinds``: those of requests that do not say.
        """
        self.states = ModelState()
        self.sequences, self._resolve = slots, resolve
        first = len(_SLOTS_OF_SET)
        self.num_slots = first + slots
        write, retire = self.states.write, self.states.retire
        self.slots = MixSlots(range(first, self.num_slots), write, retire)
        self.slots_of_set = MixSlots(_SLOTS_OF_SET, write, retire)
        self._nothing = OfSet(None, Asked(None, kinds), BatchPlan([UNTOUCHED], [kinds]))
        self.of_set = self._nothing
        self._setting = threading.Lock()
        self.callers = Callers(self.states.lock)
        self.ended = False

    def end(self) -> None:
        """The model is unpatched: nothing can be asked of it any more."""
        self.ended = True
        self.states.devices.clear()

    def check_patched(self) -> None:
        """SteeringError once the model is unpatched."""
        if self.ended:
            raise SteeringError("the model was unpatched: call emokernel.patch again")

    def resolve(self, entry: object) -> Asked:
        """What an entry asks for: an error for what is none, or once the model is unpatched."""
        self.check_patched()
        return self._resolve(entry)

    def set(self, entry: object) -> None:
        """Ask for ``entry`` wherever no block is open; nothing changes if that fails."""
        asked = self.resolve(entry)
        with self._setting:
            slots = self.slots_of_set.hold([asked.mix])
            try:
                self._show(OfSet(entry, asked, BatchPlan(slots, [asked.kinds])))
            except BaseException:
                self.slots_of_set.release([asked.mix])
                raise

    def off(self) -> None:
        """Undo `set`."""
        self.check_patched()
        with self._setting:
            self._show(self._nothing)

    def _show(self, chosen: OfSet) -> None:
        before = self.of_set
        self.callers.put(self, "of_set", chosen)
        self.slots_of_set.release([before.asked.mix])

    @contextmanager
    def generating(self, generation: Generation) -> Iterator[None]:
        """While a generation runs; what goes wrong within is what is raised."""
        self.callers.current()  # what cannot hold here is told before anything runs
        self.callers.enter(generation)
        problem = None
        try:
            yield
        except BaseException as error:
            problem = error
            raise
        finally:
            generation.ended = True
            self.callers.leave(generation, problem)

    def plan(self) -> BatchPlan | None:
        """What is asked for in this thread: by the requests that hold in it, else by `set`."""
        block = self.callers.current()
        plan = self.of_set.plan if block is None else block.plan
        return None if plan is None or plan.asks_nothing else plan

    def entries(self) -> list[Asked]:
        """The same as entries, one for each prompt or one for all."""
        block = self.callers.current()
        return [self.of_set.asked] if block is None else block.for_batching()

    def of_one_caller(self) -> tuple[BatchPlan | None, RecordedPrompts | None]:
        """The plan and the prompts of the one caller there is, in whatever thread.

        SteeringError if there are several, or if the prompts cannot be told without Python.
        """
        of_set = self.of_set.plan
        plan, generation = self.callers.one(None if of_set.asks_nothing else of_set)
        if plan is None or plan.asks_nothing:
            return None, None
        return plan, generation.traced_prompts() if generation is not None else None
