"""`patch` and `Steering`: emotions in, slots out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ContextDecorator, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from emokernel.affect import Coordinates
from emokernel.blocks import OpenBlocks
from emokernel.closing import finish
from emokernel.engines.board import prepare_compiling, token_slot
from emokernel.engines.boards import Boards
from emokernel.engines.continuous import ContinuousBatching, packed_rows
from emokernel.engines.continuous.rows import is_announced, is_packed
from emokernel.engines.continuous.tickets import Asked
from emokernel.engines.generate import (
    RecordedGenerate,
    follow_call,
    is_generating,
    is_plain,
    read_call,
    read_traced_call,
)
from emokernel.engines.generation import Generation
from emokernel.engines.rows import Plan, check_positions
from emokernel.errors import EmokernelError, SteeringError
from emokernel.mixes import Emotion, Mixer
from emokernel.ops import Backend
from emokernel.patch import Patch, PatchedLayer, forward
from emokernel.patch.decoder import find_decoder, find_generator
from emokernel.patch.forward import DecoderForward, PatchedOnUse, Placed, RowSource
from emokernel.patch.parallel import NoReplica
from emokernel.patch.tracing import constant_in_trace
from emokernel.presets import choose
from emokernel.reference import Law
from emokernel.slots import MixSlots
from emokernel.state import UNTOUCHED, DeviceState, Mix
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import Calibration
from emokernel.vectors.emotion_vectors import check_site

if TYPE_CHECKING:
    from emokernel.lab.learn.learned import Learned

LAWS = {"add": Law.ADD, "preserve": Law.PRESERVE}
DOSES = {"absolute": Law.ADD, "relative": Law.RELATIVE}
# `set` writes into the one that nothing points to.
_SLOTS_OF_SET = range(2)


@dataclass(frozen=True)
class Request:
    """What one sequence of a batch asks for; None means the choice made at `patch`."""

    emotion: Emotion
    strength: float = 1.0
    law: str | None = None
    dose: str | None = None
    positions: str | None = None


@dataclass(frozen=True)
class Report:
    """What `patch` did; ``print`` it."""

    model: str
    backend: str
    site: str
    vectors_site: str
    emotions: tuple[str, ...]
    layers: tuple[PatchedLayer, ...]
    num_layers: int
    slots: int
    strengths: str
    compiled: str

    def __str__(self) -> str:
        lines = [
            f"{self.model}: {len(self.layers)} of {self.num_layers} layers patched at site"
            f" {self.site!r}, backend {self.backend!r}, {self.slots} slots",
        ]
        for (block, operation, norm, reason, other, why), layers in _alike(self.layers).items():
            did = f"{operation} with {norm}" if norm else f"{operation}, norm not fused ({reason})"
            also = f"; its other add computes {other}" if other else ""
            also += f"; its other add does not compute {why}" if why else ""
            lines.append(f"  {block} {_ranges(layers)}: {did}{also}")
        if self.site != self.vectors_site:
            lines.append(f"  note: the vectors were made at site {self.vectors_site!r}")
        lines += [
            f"  under torch.compile: {self.compiled}",
            f"  emotions: {', '.join(self.emotions)}",
            f"  strength 1.0: {self.strengths}",
        ]
        return "\n".join(lines)


def patch(
    model: nn.Module,
    vectors: EmotionVectors,
    *,
    preset: str | None = None,
    site: str | None = None,
    law: str | None = None,
    dose: str | None = None,
    layers: Sequence[int] | None = None,
    positions: str | None = None,
    fuse_norm: bool = True,
    backend: str | None = None,
    slots: int = 256,
    calibrated: bool | None = None,
    mapping: str | None = None,
    coordinates: Coordinates | str | None = None,
) -> Steering:
    """Patch a Hugging Face causal language model in place; nothing is steered until it is asked.

    ``site``: "attention" or "block", the vectors' own unless given. ``law``: "preserve" (back to
    the row's norm; the default) or "add". ``dose``: "absolute" (the default), or "relative"
    (weights in units of the row's norm). ``layers``: the layers to steer, all that the vectors have
    unless given. ``positions``: "all" (the default), "prompt", "generated" or "last". ``preset``: a
    published method, one of `emokernel.presets.PRESETS`, that makes these five choices; one beside
    it that contradicts it is an error. "emotion-vectors" (arXiv 2502.04075) is site="attention",
    law="add", dose="absolute", all layers, positions="last"; `emokernel.presets` says how it
    differs from the published code. ``fuse_norm``: fuse the norm after the attention branch with
    the residual add; without it, a row that is not steered has the bits of the unpatched model.
    ``backend``: one of `emokernel.ops.BACKENDS`. ``slots``: how many different mixes
    `Steering.requests` can hold at a time.

    ``calibrated``: whether the calibration of the vectors says what strength 1.0 is and makes those
    choices but the last where they are left open; otherwise strength 1.0 is the vector as it is. It
    was measured at positions "all"; fewer of them make for less. Unless
    given, True if the vectors have one and neither a preset nor ``site`` or ``layers`` contradict
    it; the report says which. ``mapping``: how an `Affect` becomes a mix, "wheel" (the neighbouring
    emotions on the circle; the default) or "axes" (directions of valence and arousal), by the table
    of ``coordinates`` (the calibration's, or "russell", unless given); see `emokernel.affect`.

    Raises ModelStructureError if the model or its size does not fit, SteeringError for an unknown
    choice or one that contradicts the preset, RuntimeError if a forced backend cannot run.
    """
    if not isinstance(vectors, EmotionVectors):
        raise SteeringError(
            f"vectors must be EmotionVectors, got {type(vectors).__name__}: use"
            " EmotionVectors.load(path) or EmotionVectors.from_tensors(...)"
        )
    chosen = choose(
        preset, vectors, site=site, law=law, dose=dose, layers=layers, positions=positions
    )
    if layers is not None:
        _layers(vectors, layers)
    calibration = vectors.calibration
    obstacle = _obstacle(vectors, preset, site, layers)
    if calibrated and obstacle:
        raise SteeringError(f"calibrated=True, but {obstacle}")
    if obstacle or calibrated is False:
        calibration = None
    else:
        chosen = replace(
            chosen,
            site=calibration.site,
            layers=[layer for layer, weight in enumerate(calibration.profile) if weight],
            law=law or calibration.law,
            dose=dose or calibration.dose,
        )
        mapping = mapping or calibration.mapping
    site = check_site(chosen.site or vectors.site)
    defaults = Request(None, 1.0, chosen.law, chosen.dose, check_positions(chosen.positions))
    _law_of(chosen.law, chosen.dose)
    if slots < 1:
        raise SteeringError(f"slots must be at least 1, got {slots}")
    mixer = Mixer(vectors, calibration, mapping or "wheel", coordinates)
    return Steering(
        model, mixer, site, _layers(vectors, chosen.layers), defaults, fuse_norm, backend, slots,
        _strengths(calibration, defaults, mixer, obstacle or "calibrated=False"),
    )  # fmt: skip


def _strengths(
    calibration: Calibration | None, defaults: Request, mixer: Mixer, obstacle: str
) -> str:
    """What strength 1.0 is, for the report."""
    if calibration is None:
        return f"the vector as it is ({obstacle})"
    told = f"calibrated, law {defaults.law!r}, dose {defaults.dose!r}, mapping {mixer.mapping!r}"
    if defaults.positions == "all":
        return told
    return f"{told}; at positions 'all', not {defaults.positions!r}"


def _obstacle(
    vectors: EmotionVectors, preset: str | None, site: str | None, layers: Sequence[int] | None
) -> str | None:
    """Why the calibration of the vectors cannot be used; None if it can."""
    calibration = vectors.calibration
    if calibration is None:
        return "the vectors have no calibration"
    if preset is not None:
        return f"the preset {preset!r} has doses of its own"
    if site not in (None, calibration.site):
        return f"they were calibrated at site {calibration.site!r}"
    steered = [layer for layer, weight in enumerate(calibration.profile) if weight]
    if layers is not None and sorted(set(layers) & set(vectors.layers)) != steered:
        return f"they were calibrated for the layers {steered}"
    return None


def steering_of(model: nn.Module) -> Steering:
    """The handle of a patched model, such as a deep copy of one, which has slots of its own.

    SteeringError if the model is not patched.
    """
    decoder = find_decoder(model).owner
    for method in list(vars(decoder).values()):
        if isinstance(method, PatchedOnUse):
            return method.patch()
        if isinstance(method, DecoderForward | NoReplica):  # another tool may have wrapped one
            return method.handle
    raise SteeringError(f"this {type(model).__name__} is not patched: call emokernel.patch")


class Steering:
    """The handle of a patched model."""

    def __init__(
        self,
        model: nn.Module,
        mixer: Mixer,
        site: str,
        layers: Sequence[int],
        defaults: Request,
        fuse_norm: bool,
        backend: str | None,
        slots: int,
        strengths: str,
    ) -> None:
        """Made by `patch`."""
        self._model, self._mixer, self._site, self._defaults = model, mixer, site, defaults
        self._layers, self._fuse_norm, self._backend = layers, fuse_norm, backend
        # Of each vector, whether it is anything in a steered layer.
        self._present = mixer.basis.tensor[list(layers)].any(-1).any(0).tolist()
        self._strengths = strengths
        first = len(_SLOTS_OF_SET)
        self._slots = MixSlots(range(first, first + slots), self._write, self._retire)
        self._slots_of_set = MixSlots(_SLOTS_OF_SET, self._write, self._retire)
        self._num_slots = slots
        self._batching = ContinuousBatching(self._resolve_entry, self._active, self._slots)
        self._of_set: _Set | None = None
        self._setting = Lock()
        self._blocks: OpenBlocks[OpenRequests] = OpenBlocks()
        self._generator, self._patch = model, None  # the model runs while it is being patched
        self._boards = Boards(
            self._states, slots, self._plan_of_set, inherited=self._blocks.inherited
        )
        self._patch: Patch | None = Patch(
            model, mixer.basis.tensor, layers, site=site, slots=first + slots, fuse_norm=fuse_norm,
            backend=backend, rows=RowSource(self._rows, self._prepare, self._traced_rows),
            handle=self, profile=mixer.profile,
        )  # fmt: skip
        generator = find_generator(model, self._patch.decoder)
        if generator is not None:
            self._generator = generator
            self._patch.replace(RecordedGenerate(generator, self._generating))
            for entry in self._batching.replacements(generator):
                self._patch.replace(entry)

    def set(
        self,
        emotion: Emotion,
        strength: float = 1.0,
        *,
        law: str | None = None,
        dose: str | None = None,
        positions: str | None = None,
    ) -> None:
        """Steer every sequence from now on: a name, {name: weight}, an `Affect`, or None.

        ``strength`` multiplies the weights; negatives are allowed. `requests` overrides this.
        Called from a streamer or a logits processor it holds from the next token on. Called from
        another thread it holds for forward calls that begin after it: a token that is being
        computed gets what was set before. Raises UnknownEmotionError, or SteeringError for a mix
        that is no mix; nothing changes then, whatever fails.
        """
        request = Request(emotion, strength, law, dose, positions)
        mix, positions = self._resolve(request)
        if mix is None:
            self.off()
            return
        with self._setting:
            slot = self._slots_of_set.hold([mix])[mix]
            try:
                self._show_set(_Set(request, mix, positions, Plan([slot], [positions])))
            except BaseException:
                self._slots_of_set.release([mix])
                raise

    def off(self) -> None:
        """Undo `set`: sequences are left as they are unless `requests` says otherwise."""
        self._patched()
        with self._setting:
            self._show_set(None)

    def _show_set(self, chosen: _Set | None) -> None:
        before = self._of_set
        self._boards.put(self, "_of_set", chosen)
        if before is not None:
            self._slots_of_set.release([before.mix])

    def requests(
        self,
        requests: Sequence[Emotion | Request],
        *,
        prompt_lengths: Sequence[int] | Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> OpenRequests:
        """Within the block, one request per sequence of the batch; overrides `set`.

        A batch may be a whole multiple of the requests (beams, return sequences: each repeated in
        place). ``prompt_lengths`` ``[requests]`` (tokens, padding not counted) and
        ``attention_mask`` ``[requests, width]`` tell own decoding loops apart from prompts;
        `generate` records both by itself, counting as prompt all that it is given in that call
        (``prompt_lengths`` go before that). SteeringError if there are more different mixes than
        free slots; nothing changes then.

        The block gives an `OpenRequests`, whose ``change`` asks for others while it is open.

        Each thread has its own requests (a context variable). One that was started while exactly
        one block was open on the model, and opens none itself, is steered by that block, which a
        warning tells once; one that was there before is not. If several were open, or the block
        has been closed since, its calls are a SteeringError, and so are those in a copy of the
        context of a closed block: what is closed stays closed. ``requests([None])`` is how a thread
        says that it wants nothing.
        """
        return OpenRequests(self, requests, prompt_lengths, attention_mask)

    def check(self, entry: Emotion | Request) -> None:
        """Raise what `requests` would for this entry, but for a want of slots; do nothing else."""
        self._resolve_entry(entry)

    @contextmanager
    def learning(
        self, emotions: str | Iterable[str] | None = None, *, train_model: bool = False
    ) -> Iterator[Learned]:
        """Within the block, the vectors of ``emotions`` (all unless given) are a parameter.

        The block gives an `emokernel.lab.learn.Learned`: the optimiser is given its ``parameter``,
        whose values every forward call steers with, gradients or none, and ``vectors()`` is what
        was learned. Afterwards the model steers with its own vectors again. The model's parameters
        require no gradient meanwhile, unless ``train_model``.

        UnknownEmotionError, or SteeringError within `torch.inference_mode`, for a model that was
        compiled, or if there is nothing to learn.
        """
        from emokernel.lab.learn.learned import Learned, learning

        states = self._patched().states
        learned = Learned(
            self.vectors, self._mixer.basis.tensor, emotions, self._layers, states[0].device
        )
        with learning(self._model, states, learned, train_model):
            yield learned

    def unpatch(self) -> None:
        """Restore everything that `patch` replaced; harmless the second time.

        SteeringError while continuous batching runs steered requests; nothing changes then.
        """
        if self._patch is not None:
            self._batching.leave()
            self._patch.remove()
            self._patch = None

    @property
    def vectors(self) -> EmotionVectors:
        """The vectors that the model was patched with."""
        return self._mixer.vectors

    @property
    def calibration(self) -> Calibration | None:
        """What says how much strength 1.0 is; None if that is the vector as it is."""
        return self._mixer.calibration

    @property
    def placed(self) -> list[Placed]:
        """State and backend of each device of the model; SteeringError once it is unpatched."""
        return self._patched().placed

    @property
    def mapping(self) -> str:
        """How an `Affect` becomes a mix: "wheel" or "axes"."""
        return self._mixer.mapping

    @property
    def defaults(self) -> Request:
        """What a request means where it leaves law, dose and positions open."""
        return self._defaults

    def report(self) -> Report:
        """What was patched, with which backend, and which layers fell back and why."""
        patch = self._patched()
        return Report(
            type(self._model).__name__, patch.backend.name, self._site, self._mixer.vectors.site,
            self._mixer.vectors.names, tuple(patch.layers), self._mixer.vectors.num_layers,
            self._num_slots, self._strengths, _told_compiled(patch.backend),
        )  # fmt: skip

    def copier(self) -> Callable[[nn.Module], Steering]:
        """What makes a handle like this one is now, with slots of its own, for a deep copy."""
        chosen = self._of_set
        asked = None if chosen is None else chosen.request

        def patch_copy(model: nn.Module) -> Steering:
            steering = Steering(
                model, self._mixer, self._site, self._layers, self._defaults, self._fuse_norm,
                self._backend, self._num_slots, self._strengths,
            )  # fmt: skip
            if asked is not None:
                steering.set(
                    asked.emotion, asked.strength, law=asked.law, dose=asked.dose,
                    positions=asked.positions,
                )  # fmt: skip
            return steering

        return patch_copy

    def _patched(self) -> Patch:
        if self._patch is None:
            raise SteeringError("the model was unpatched: call emokernel.patch again")
        return self._patch

    def _write(self, slot: int, mix: Mix) -> None:
        for state in self._patched().states:
            state.write(slot, mix)

    def _retire(self, slot: int) -> None:
        for state in self._states():
            state.retire(slot)

    def _resolve(self, request: Request) -> tuple[Mix | None, str]:
        """(The mix, or None if nothing is to be steered; the positions) of a request."""
        self._patched()
        law, dose = request.law or self._defaults.law, request.dose or self._defaults.dose
        bits = _law_of(law, dose)
        positions = check_positions(request.positions or self._defaults.positions)
        components = self._mixer.components(request.emotion, request.strength, law, dose)
        asked = [number for number, weight in components if weight]
        if asked and not any(self._present[number] for number in asked):
            raise SteeringError(
                f"{request.emotion!r} is zero in every steered layer ({_ranges(self._layers)}):"
                " patch other layers, or extract it again"
            )
        return (Mix(components, bits) if components else None), positions

    def _resolve_entry(self, entry: Emotion | Request) -> Asked:
        return self._resolve(_as_request(entry))

    def _active(self) -> list[Asked]:
        """What is asked for in this thread, for prompts that continuous batching will run."""
        if (opened := self._blocks.current()) is not None:
            return opened.for_batching()
        if (chosen := self._of_set) is not None:
            return [(chosen.mix, chosen.positions)]
        return [(None, self._defaults.positions)]

    def _plan(self) -> Plan | None:
        """What is asked for in this thread: by the requests that hold in it, else by `set`."""
        opened = self._blocks.current()
        plan = self._plan_of_set() if opened is None else opened.plan
        return None if plan is None or plan.asks_nothing else plan

    def _plan_of_set(self) -> Plan | None:
        chosen = self._of_set
        return None if chosen is None else chosen.plan

    def _generating(self, generation: Generation) -> AbstractContextManager[None]:
        self._blocks.current()  # what cannot hold here is told before anything runs
        return self._boards.caller(generation)

    def _states(self) -> list[DeviceState]:
        return [] if self._patch is None else self._patch.states

    def _prepare(self, states: Sequence[DeviceState], names: Sequence[str]) -> None:
        """Make the boards for a forward that is compiled, and write what is asked."""
        packed = is_packed(names)  # its rows come with it
        if not packed:
            self._blocks.current()
        for state in states:
            _refuse_learning(state)
            state.readers.read()
            self._boards.make(state)
            if not packed:
                self._boards.use(state)
            prepare_compiling(*state.fixed, *state.board.fixed)

    def _traced_rows(self, named: dict[str, Any], state: DeviceState) -> Tensor:
        if not torch.compiler.is_compiling():
            _refuse_learning(state)
        if is_packed(named):
            return packed_rows(named, state, steers=True)  # what is asked for may change
        if state.board is None:
            raise SteeringError("run the model once before a CUDA graph captures it")
        if not torch.compiler.is_compiling():
            self._boards.use(state)
        return token_slot(state.board, read_traced_call(named, self._is_generating()))

    @constant_in_trace
    def _is_generating(self) -> bool:
        """Asked while torch.compile traces, not later."""
        return is_generating(self._generator)

    def _rows(self, named: dict[str, Any], state: DeviceState) -> Tensor:
        state.readers.read()
        if is_announced(named):  # by a thread that is asked for nothing: each request has its own
            return packed_rows(named, state, steers=False)
        plan = self._plan()
        if is_packed(named):
            return packed_rows(named, state, steers=plan is not None)
        if state.board is None and forward.can_be_captured(state.device):
            self._boards.make(state)  # in the calls before a capture: within it, it is too late
        slot = UNTOUCHED if plan is None else plan.slot_of_all
        if plan is None:
            follow_call(self._generator, named, state.device)
        if plan is None or (slot is not None and is_plain(named)):
            rows = named["inputs_embeds"] if named.get("input_ids") is None else named["input_ids"]
            return state.constant_rows(rows.shape[0] * rows.shape[1], slot)
        return plan.token_slot(read_call(self._generator, named, plan.mask, state.device), state)


@dataclass(frozen=True)
class _Set:
    """What `Steering.set` has chosen."""

    request: Request
    mix: Mix
    positions: str
    plan: Plan


class OpenRequests(ContextDecorator):
    """The requests of a `Steering.requests` block, which is entered once."""

    def __init__(
        self,
        steering: Steering,
        requests: Sequence[Emotion | Request],
        prompt_lengths: Sequence[int] | Tensor | None,
        attention_mask: Tensor | None,
    ) -> None:
        """Made by `Steering.requests`."""
        self.steering = steering
        self._requests, self._recorded = requests, (prompt_lengths, attention_mask)
        self._lock = Lock()  # held while they change, or are closed
        self._mixes: list[Mix] = []
        self.plan: Plan | None = None
        self.closed = False

    def __enter__(self) -> OpenRequests:
        steering = self.steering
        with self._lock:
            if self.closed or self.plan is not None:
                raise SteeringError(
                    "a requests block is entered once: call steering.requests(...) for each `with`"
                )
            self.plan, self._asked, self._mixes = self._planned(self._requests)
        try:
            steering._boards.enter(self)
        except BaseException as error:
            finish(error, self._close)
            raise
        try:
            steering._blocks.enter(self)
        except BaseException as error:
            finish(error, partial(steering._boards.leave, self, error), self._close)
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.closed or self.plan is None:
            return
        steering = self.steering
        finish(
            error,
            partial(steering._blocks.leave, self),
            partial(steering._boards.leave, self, error),
            self._close,
        )

    def _recreate_cm(self) -> OpenRequests:
        """For each call of a function that this decorates."""
        return OpenRequests(self.steering, self._requests, *self._recorded)

    def change(self, requests: Sequence[Emotion | Request]) -> None:
        """From the next forward call on, these requests, as many as there were.

        Meant for a streamer or a logits processor, in whatever thread: what they ask for holds from
        the next token on. SteeringError if there are not enough slots for the new mixes beside the
        old, or the block is not open; nothing changes then.
        """
        with self._lock:
            self._check_open()
            if len(requests) != self.plan.entries:
                raise SteeringError(
                    f"{len(requests)} requests cannot take the place of {self.plan.entries}"
                )
            plan, asked, mixes = self._planned(requests)
            try:
                self.steering._boards.put(self, "plan", plan)
            except BaseException:
                self.steering._slots.release(mixes)
                raise
            unused, self._asked, self._mixes = self._mixes, asked, mixes
            self.steering._slots.release(unused)

    def _planned(
        self, requests: Sequence[Emotion | Request]
    ) -> tuple[Plan, list[Asked], list[Mix]]:
        """(A plan of them, what each asks for, the mixes that hold slots for it from now on)."""
        if not isinstance(requests, Sequence) or isinstance(requests, str) or not requests:
            raise SteeringError("requests needs a list with one entry per sequence of the batch")
        steering = self.steering
        asked = [steering._resolve_entry(entry) for entry in requests]
        mixes = [mix for mix, _ in asked if mix is not None]
        slot_of = steering._slots.hold(mixes)
        try:
            plan = Plan(
                [UNTOUCHED if mix is None else slot_of[mix] for mix, _ in asked],
                [positions for _, positions in asked],
                *self._recorded,
            )
        except BaseException:
            steering._slots.release(mixes)
            raise
        return plan, asked, mixes

    def for_batching(self) -> list[Asked]:
        """What each entry asks for; SteeringError if it also says which tokens are prompt."""
        self._check_open()
        if any(given is not None for given in self._recorded):
            raise SteeringError(
                "continuous batching knows its prompts and pads nothing: leave prompt_lengths and"
                " attention_mask out of requests"
            )
        return self._asked

    def _check_open(self) -> None:
        if self.closed or self.plan is None:
            raise SteeringError(
                "this requests block is not open: what is asked for within it ends with it; open"
                " another with steering.requests(...)"
            )

    def _close(self) -> None:
        with self._lock:
            self.closed = True
            unused, self._mixes = self._mixes, []
            self.steering._slots.release(unused)


def _refuse_learning(state: DeviceState) -> None:
    if state.learned is not None:
        raise SteeringError(
            "a model cannot be compiled or captured while vectors are learned: leave"
            " steering.learning(...) first"
        )


def _told_compiled(backend: Backend) -> str:
    """What stands at the steered adds of a compiled model, for the report."""
    if backend.namespace is None:
        return "the law in torch's own operations, which it fuses"
    if backend.fuses_compiled:
        return "the same operations; the other adds are its own"
    return "the law alone; the norms and the other adds are its own"


def _as_request(entry: Emotion | Request) -> Request:
    return entry if isinstance(entry, Request) else Request(entry)


def _law_of(law: str, dose: str) -> Law:
    if law not in LAWS:
        raise SteeringError(f"unknown law {law!r}: choose one of {', '.join(LAWS)}")
    if dose not in DOSES:
        raise SteeringError(f"unknown dose {dose!r}: choose one of {', '.join(DOSES)}")
    return LAWS[law] | DOSES[dose]


def _layers(vectors: EmotionVectors, layers: Sequence[int] | None) -> list[int]:
    if layers is None:
        chosen = list(vectors.layers)
    else:
        if not isinstance(layers, Iterable) or not all(isinstance(n, int) for n in layers):
            raise EmokernelError(f"layers needs a list of layer numbers, got {layers!r}")
        chosen = sorted(set(layers))
        unknown = [layer for layer in chosen if not 0 <= layer < vectors.num_layers]
        if unknown:
            raise EmokernelError(
                f"no such layers: {unknown}; these vectors have 0 to {vectors.num_layers - 1}"
            )
    if not vectors.layers:
        raise EmokernelError(
            "there is no layer to steer: the vectors are zero in all of them; extract them again"
        )
    if set(chosen).isdisjoint(vectors.layers):
        raise EmokernelError(
            f"there is no layer to steer: the vectors are zero in layers {chosen}, other than in"
            f" {list(vectors.layers)}"
        )
    return chosen


def _alike(layers: Sequence[PatchedLayer]) -> dict[tuple, list[int]]:
    """The layers to which the same was done, by what it was; norms without their layer's number."""
    groups: dict[tuple, list[int]] = {}
    for layer in layers:
        norms = (layer.norm, layer.not_fused, layer.also_fused, layer.also_not)
        norms = tuple(text and re.sub(r"\b\d+\.", "*.", text) for text in norms)
        key = layer.block, layer.operation, *norms
        groups.setdefault(key, []).append(layer.layer)
    return groups


def _ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers as "0-3, 5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
