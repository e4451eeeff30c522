"""`patch` and `Steering`: emotions in, slots out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor, nn

from emokernel.affect import Coordinates
from emokernel.affect.mixes import Emotion, Mixer
from emokernel.choices import POSITIONS, DoseName, LawName, MappingName, PositionsName, SiteName
from emokernel.engines import ENGINES, MakeEngine, Requested
from emokernel.errors import SteeringError
from emokernel.open_requests import OpenRequests
from emokernel.patch import Patch, handle_of
from emokernel.patch.placed import Placed
from emokernel.presets import settle
from emokernel.report import Report, report_of
from emokernel.requests import Request, Resolver
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import Calibration

if TYPE_CHECKING:
    from emokernel.lab.learn.learned import Learned


def patch(
    model: nn.Module,
    vectors: EmotionVectors,
    *,
    preset: str | None = None,
    site: SiteName | None = None,
    law: LawName | None = None,
    dose: DoseName | None = None,
    layers: Sequence[int] | None = None,
    positions: PositionsName | None = None,
    fuse_norm: bool = True,
    backend: str | None = None,
    slots: int = 256,
    calibrated: bool | None = None,
    mapping: MappingName | None = None,
    coordinates: Coordinates | str | None = None,
    engines: Sequence[MakeEngine] = (),
) -> Steering:
    """Patch a Hugging Face causal language model in place; nothing is steered until it is asked.

    ``site``: "attention" or "block", the vectors' own unless given. ``law``: "preserve" (back to
    the row's norm; the default) or another of `emokernel.choices.LAW`. ``dose``: "absolute" (the
    default), or "relative" (weights in units of the row's norm). ``layers``: the layers to steer,
    all that the vectors have unless given. ``positions``: "all" (the default) or another of
    `emokernel.choices.POSITIONS`. ``preset``: a published method, one of
    `emokernel.presets.PRESETS`, that makes these five choices; one beside it that contradicts it is
    an error. "emotion-vectors" (arXiv 2502.04075) is site="attention", law="add", dose="absolute",
    all layers, positions="last"; `emokernel.presets` says how it differs from the published code.
    ``fuse_norm``: fuse the norm after the attention branch with the residual add; without it, a row
    that is not steered has the bits of the unpatched model. ``backend``: one of
    `emokernel.ops.BACKENDS`. ``slots``: how many different mixes `Steering.requests` can hold at a
    time.

    ``calibrated``: whether the calibration of the vectors says what strength 1.0 is and makes those
    choices but the last where they are left open; otherwise strength 1.0 is the vector as it is. It
    was measured at positions "all"; fewer of them make for less. Unless given, True if the vectors
    have one and neither a preset nor ``site`` or ``layers`` contradict it; the report says which.
    ``mapping``: how an `Affect` becomes a mix, "wheel" (the neighbouring emotions on the circle;
    the default) or "axes" (directions of valence and arousal), by the table of ``coordinates`` (the
    calibration's, or "russell", unless given); see `emokernel.affect`. ``engines``: what makes
    further engines (`emokernel.engines.base`), asked before the package's own which slot each row
    of a call has.

    Raises ModelStructureError if the model or its size does not fit, SteeringError for an unknown
    choice or one that contradicts the preset, RuntimeError if a forced backend cannot run.
    """
    if not isinstance(vectors, EmotionVectors):
        raise SteeringError(
            f"vectors must be EmotionVectors, got {type(vectors).__name__}: use"
            " EmotionVectors.load(path) or EmotionVectors.from_tensors(...)"
        )
    choices = settle(
        vectors, preset=preset, calibrated=calibrated, mapping=mapping, site=site, law=law,
        dose=dose, layers=layers, positions=positions, fuse_norm=fuse_norm, backend=backend,
        slots=slots,
    )  # fmt: skip
    mixer = Mixer(vectors, choices.calibration, choices.mapping, coordinates)
    return Steering(model, Resolver(mixer, choices), tuple(engines))


def steering_of(model: nn.Module) -> Steering:
    """The handle of a patched model, such as a deep copy of one, which has slots of its own.

    SteeringError if the model is not patched.
    """
    handle = handle_of(model)
    if isinstance(handle, Steering):
        return handle
    raise SteeringError(f"this {type(model).__name__} is not patched: call emokernel.patch")


class Steering:
    """The handle of a patched model; ``engines`` read what is ``requested`` of it."""

    def __init__(self, model: nn.Module, resolve: Resolver, further: Sequence[MakeEngine]) -> None:
        """Made by `patch`."""
        self._model, self._resolve, self._further = model, resolve, further
        mixer, choices = resolve.mixer, resolve.choices
        self.requested = Requested(choices.slots, resolve, POSITIONS[choices.positions])
        self.engines = tuple(make(self.requested) for make in (*further, *ENGINES))
        self._patch = Patch(
            model, mixer.basis.tensor, choices.layers, site=choices.site,
            slots=self.requested.num_slots, fuse_norm=choices.fuse_norm, backend=choices.backend,
            engines=self.engines, states=self.requested.states, handle=self, profile=mixer.profile,
        )  # fmt: skip

    def set(
        self,
        emotion: Emotion,
        strength: float = 1.0,
        *,
        law: LawName | None = None,
        dose: DoseName | None = None,
        positions: PositionsName | None = None,
    ) -> None:
        """Steer every sequence from now on: a name, {name: weight}, an `Affect`, or None.

        ``strength`` multiplies the weights; negatives are allowed. `requests` overrides this.
        Called from a streamer or a logits processor it holds from the next token on. Called from
        another thread it holds for forward calls that begin after it: a token that is being
        computed gets what was set before. Raises UnknownEmotionError, or SteeringError for a mix
        that is no mix; nothing changes then, whatever fails.
        """
        self.requested.set(Request(emotion, strength, law, dose, positions))

    def off(self) -> None:
        """Undo `set`: sequences are left as they are unless `requests` says otherwise."""
        self.requested.off()

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
        return OpenRequests(self.requested, requests, prompt_lengths, attention_mask)

    def check(self, entry: Emotion | Request) -> None:
        """Raise what `requests` would for this entry, but for a want of slots; do nothing else."""
        self.requested.resolve(entry)

    def reach(self, entry: Emotion | Request, norm: float) -> float:
        """The norm that a row of ``norm`` may have behind all steered layers, at most.

        By steering alone, as if all vectors pointed the same way: what tells a strength that may
        overflow. Raises what `check` does.
        """
        self.requested.check_patched()
        return self._resolve.reach(entry, norm)

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

        self.requested.check_patched()
        states, basis = list(self.requested.states.devices), self._resolve.mixer.basis.tensor
        layers, device = self._resolve.choices.layers, states[0].device
        learned = Learned(self.vectors, basis, emotions, layers, device)
        with learning(self._model, states, learned, train_model):
            yield learned

    def unpatch(self) -> None:
        """Restore everything that `patch` replaced; harmless the second time.

        SteeringError while continuous batching runs steered requests; nothing changes then.
        """
        if not self.requested.ended:
            for engine in self.engines:
                engine.check_idle()
            for engine in self.engines:
                engine.leave()
            self._patch.remove()
            self.requested.end()
            del self._patch  # and what it holds on the device

    @property
    def vectors(self) -> EmotionVectors:
        """The vectors that the model was patched with."""
        return self._resolve.mixer.vectors

    @property
    def calibration(self) -> Calibration | None:
        """What says how much strength 1.0 is; None if that is the vector as it is."""
        return self._resolve.mixer.calibration

    @property
    def placed(self) -> list[Placed]:
        """State and backend of each device of the model; SteeringError once it is unpatched."""
        self.requested.check_patched()
        return self._patch.placed

    @property
    def mapping(self) -> MappingName:
        """How an `Affect` becomes a mix: "wheel" or "axes"."""
        return self._resolve.choices.mapping

    @property
    def defaults(self) -> Request:
        """What a request means where it leaves law, dose and positions open."""
        choices = self._resolve.choices
        return Request(None, 1.0, choices.law, choices.dose, choices.positions)

    def report(self) -> Report:
        """What was patched, with which backend, and which layers fell back and why."""
        self.requested.check_patched()
        return report_of(self._model, self._patch, self.vectors, self._resolve.choices)

    def copier(self) -> Callable[[nn.Module], Steering]:
        """What makes a handle like this one is now, with slots of its own, for a deep copy."""
        chosen = self.requested.of_set

        def patch_copy(model: nn.Module) -> Steering:
            steering = Steering(model, self._resolve, self._further)
            steering.requested.set(chosen.entry)
            return steering

        return patch_copy
