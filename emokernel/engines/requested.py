"""What is asked of one patched model, resolved to slots: written by those who ask, read by engines.

By `set`, which holds wherever nothing else does, or by the requests of a block, which hold in its
context. What runs without Python has one caller at a time, whose wishes are announced to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from emokernel.engines.blocks import OpenBlocks
from emokernel.engines.closing import finish
from emokernel.engines.plan import BatchPlan, RecordedPrompts
from emokernel.engines.texts import Generation
from emokernel.errors import SteeringError
from emokernel.state import Asked, Kinds, MixSlots, ModelState

# `set` writes into the one that nothing points to.
_SLOTS_OF_SET = range(2)


class Requests(Protocol):
    """The requests of an open block."""

    plan: BatchPlan | None
    closed: bool

    def for_batching(self) -> list[Asked]:
        """What each entry asks for; SteeringError if it also says which tokens are prompt."""


class Listener(Protocol):
    """Who has to be told when something else is asked for."""

    def announce(self) -> None:
        """Something else is; SteeringError if that cannot be, and everything is as it was then."""

    def clear(self) -> None:
        """Rather nothing than what is over."""

    def left(self, caller: Caller) -> None:
        """A caller has ended; SteeringError if something it asked for was not done."""


Caller = Requests | Generation

# All requests and generations that are open in this context, innermost last.
_here: ContextVar[tuple[Caller, ...]] = ContextVar("callers", default=())

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
        self.blocks: OpenBlocks[Requests] = OpenBlocks()
        # What is open in any context, in order of entry; and what was open around it.
        self._open: list[tuple[Caller, tuple[Caller, ...]]] = []
        self._listeners: list[Listener] = []
        # What is asked for is read, and announced, by one thread at a time: otherwise one could
        # announce what was asked for before another changed it.
        self._lock = threading.RLock()
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

    def listen(self, listener: Listener) -> None:
        """Tell ``listener`` from now on when something else is asked for."""
        self._listeners.append(listener)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with what is asked for and what forwards read of it.

        The states come first, since a forward that asks holds its own.
        """
        with ExitStack() as held:
            for state in list(self.states.devices):
                held.enter_context(state.lock)
            held.enter_context(self._lock)
            yield

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
        self.put(self, "of_set", chosen)
        if before is not None:
            self.slots_of_set.release([before.asked.mix])

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute that says what is asked for; everything as it was if that fails."""
        with self.locked():
            kept = getattr(owner, name)
            setattr(owner, name, value)
            try:
                self.announce()
            except BaseException as error:
                setattr(owner, name, kept)
                finish(error, self.announce)
                raise

    def announce(self) -> None:
        """Tell those who listen that something else is asked for."""
        with self.locked():
            for listener in self._listeners:
                listener.announce()

    def open(self, block: Requests) -> None:
        """The requests of ``block`` hold in this context; SteeringError if they cannot."""
        self.enter(block)
        try:
            self.blocks.enter(block)
        except BaseException as error:
            finish(error, partial(self.leave, block, error))
            raise

    def close(
        self, block: Requests, error: BaseException | None, release: Callable[[], None]
    ) -> None:
        """They hold nowhere any more, and then ``release`` is called; as `leave` otherwise."""
        leave = partial(self.leave, block, error)
        finish(error, partial(self.blocks.leave, block), leave, release)

    @contextmanager
    def generating(self, generation: Generation) -> Iterator[None]:
        """While a generation runs; what goes wrong within is what is raised."""
        token = _running.set((self, generation))
        try:
            self.blocks.current()  # what cannot hold here is told before anything runs
            self.enter(generation)
            try:
                yield
            except BaseException as error:
                self.leave(generation, error)
                raise
            self.leave(generation)
        finally:
            generation.ended = True
            _running.reset(token)

    def generation(self) -> Generation | None:
        """The `generate` of the model that runs in this context.

        One that has ended may be left in a copy of its context.
        """
        running = _running.get()
        return running[1] if running and running[0] is self and not running[1].ended else None

    def enter(self, entering: Caller) -> None:
        """Requests are open now, or a generation runs.

        SteeringError if one that is told cannot hold that; nothing changes then.
        """
        around = _here.get()
        if isinstance(entering, Generation):  # of the same caller, who generates in a thread
            around = (*self.blocks.inherited(), *around)
        with self.locked():
            self._open.append((entering, around))
            try:
                self.announce()
            except BaseException as error:
                finish(error, partial(self._forget, entering))
                raise
        _here.set((*_here.get(), entering))

    def leave(self, leaving: Caller, error: BaseException | None = None) -> None:
        """They are not any more, in whatever order they are left.

        What those who were told have to say is raised, behind ``error`` if that ended the block.
        """
        _here.set(tuple(each for each in _here.get() if each is not leaving))
        lefts = [partial(listener.left, leaving) for listener in self._listeners]
        finish(error, partial(self._forget, leaving), *lefts)

    def _forget(self, leaving: Caller) -> None:
        with self.locked():
            self._open = [each for each in self._open if each[0] is not leaving]
            for generation, around in self._generations():
                if leaving in around:
                    generation.outlived = True
            try:
                self.announce()
            except SteeringError:
                for listener in self._listeners:
                    listener.clear()
                raise

    def _generations(self) -> list[tuple[Generation, tuple[Caller, ...]]]:
        return [
            (each, around) for each, around in self._open if isinstance(each, Generation)
        ]

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
        with self._lock:
            generations = [each for each, _ in self._generations()]
            asking = [each for each, _ in self._open if not isinstance(each, Generation)]
            plan = asking[-1].plan if asking else self._plan_of_set()
            if asking or plan is not None:
                for (outer, _), (_, around) in zip(self._open, self._open[1:], strict=False):
                    if outer not in around:
                        raise _several_callers()
            if plan is None or plan.asks_nothing:
                return None, None
            return plan, generations[-1].traced_prompts() if generations else None

    def check_one_caller(self) -> None:
        """SteeringError if something is open that is not of this context."""
        with self._lock:
            if {each for each, _ in self._open} - {*self.blocks.inherited(), *_here.get()}:
                raise _several_callers()


def _several_callers() -> SteeringError:
    return SteeringError(
        "a compiled or captured model has one caller at a time, but another thread or task has"
        " requests open or generates: run one after the other, or give each a patched copy"
    )
