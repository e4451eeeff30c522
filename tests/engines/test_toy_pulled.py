"""An engine of a patched decoder in one file: a server that gives every sequence a lane.

Whoever calls the model says ``lanes=`` ``[batch]``; what a lane asks for is asked of the engine.
"""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import VOCABULARY
from torch._dynamo.testing import CompileCounter

from emokernel import patch, steering_of
from emokernel.engines import Engine
from emokernel.errors import SteeringError
from emokernel.state import UNTOUCHED


class Lanes(Engine):
    """Answers calls that name the lane of each sequence."""

    def __init__(self, requested):
        self._requested, self._held = requested, {}
        self._slot_of = torch.full((4,), UNTOUCHED, dtype=torch.int32)

    def ask(self, lane, entry):
        """From the next call on ``lane`` is steered by ``entry``, None: not at all."""
        mix = self._requested.resolve(entry).mix
        (self._slot_of[lane],) = self._requested.slots.hold([mix])
        self._requested.slots.release([self._held.pop(lane)] if lane in self._held else [])
        if mix is not None:
            self._held[lane] = mix

    def claims(self, call):
        return "lanes" in call.named

    def token_slot(self, call, state):
        tokens = call.tokens.shape[1]
        return self._slot_of[call.named["lanes"]].repeat_interleave(tokens)

    traced_token_slot = token_slot

    def check_idle(self):
        if self._held:
            raise SteeringError(f"{len(self._held)} lanes are steered: ask them for None first")


@pytest.fixture
def served(tiny, vectors):
    """A patched model and its lanes."""
    model = tiny()
    steering = patch(model, vectors(), slots=3, engines=[Lanes])
    return model, steering, steering.engines[0]


IDS = torch.randint(3, VOCABULARY, (3, 5), generator=torch.Generator().manual_seed(0))
NUMBERS = torch.tensor([2, 0, 1])


def logits(model, **given):
    with torch.no_grad():
        return model(IDS, use_cache=False, **given).logits


def test_every_lane_has_what_is_asked_for_it(served):
    model, steering, lanes = served
    lanes.ask(0, "joy")
    lanes.ask(2, {"anger": 0.5})
    got = logits(model, lanes=NUMBERS)
    with steering.requests([{"anger": 0.5}, "joy", None]):
        assert torch.equal(got, logits(model))
    lanes.ask(0, None)
    with steering.requests([{"anger": 0.5}, None, None]):
        assert torch.equal(logits(model, lanes=NUMBERS), logits(model))


def test_calls_without_lanes_are_for_the_other_engines(served):
    model, steering, lanes = served
    lanes.ask(0, "joy")
    plain = logits(model)
    steering.set("anger")
    with_lanes = logits(model, lanes=NUMBERS)
    assert not torch.equal(logits(model), plain)
    steering.off()
    assert torch.equal(logits(model), plain)
    assert torch.equal(with_lanes, logits(model, lanes=NUMBERS)), "`set` is not its lanes' business"


def test_a_compiled_lane_changes_its_emotion_without_a_recompile(served):
    torch._dynamo.reset()
    model, _, lanes = served
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter)
    for entry in ("joy", None, {"joy": 0.3, "anger": -0.5}):
        lanes.ask(1, entry)
        assert torch.allclose(
            logits(compiled, lanes=NUMBERS), logits(model, lanes=NUMBERS), atol=1e-5
        )
    assert counter.frame_count == 1


def test_slots_are_given_out_again_and_nothing_is_unpatched_beneath_a_lane(served):
    model, steering, lanes = served
    lanes.ask(0, "joy")
    for emotion in ("anger", "sadness", "surprise") * 3:
        lanes.ask(1, emotion)
    assert steering.requested.slots.held == 2
    wanted = logits(model, lanes=NUMBERS)
    with pytest.raises(SteeringError, match="2 lanes are steered"):
        steering.unpatch()
    assert torch.equal(logits(model, lanes=NUMBERS), wanted)
    lanes.ask(0, None)
    lanes.ask(1, None)
    steering.unpatch()
    with pytest.raises(SteeringError, match="was unpatched"):
        lanes.ask(0, "joy")


def test_a_deep_copy_has_lanes_of_its_own(served):
    model, _, lanes = served
    lanes.ask(0, "joy")
    twin = copy.deepcopy(model)
    others = steering_of(twin).engines[0]
    assert others is not lanes
    others.ask(0, "anger")
    assert not torch.equal(logits(twin, lanes=NUMBERS), logits(model, lanes=NUMBERS))


def test_an_engine_that_cannot_be_traced_says_so(tiny, vectors):
    class Eager(Lanes):
        traced_token_slot = Engine.traced_token_slot

    torch._dynamo.reset()
    model = tiny()
    patch(model, vectors(), engines=[Eager])
    with pytest.raises(Exception, match="forwards of Eager cannot be compiled or captured"):
        logits(torch.compile(model, backend="eager"), lanes=NUMBERS)


def test_either_all_engines_leave_or_none(tiny, vectors):
    """The first has nothing against it, the second has."""
    left = []

    class First(Lanes):
        def leave(self):
            left.append(self)

    model = tiny()
    steering = patch(model, vectors(), engines=[First, Lanes])
    steering.engines[1].ask(0, "joy")
    with pytest.raises(SteeringError, match="1 lanes are steered"):
        steering.unpatch()
    assert left == []
    steering.engines[1].ask(0, None)
    steering.unpatch()
    assert left == [steering.engines[0]]


def test_a_compiled_call_is_claimed_as_an_eager_one_is(served):
    """An argument that is None is none."""

    class Picky(Lanes):
        def claims(self, call):
            return call.named.get("lanes") is not None

    torch._dynamo.reset()
    model, steering, _ = served
    steering.unpatch()
    steering = patch(model, steering.vectors, engines=[Picky])
    steering.set("joy")
    compiled = torch.compile(model, backend="eager")
    assert torch.allclose(logits(compiled, lanes=None), logits(model, lanes=None), atol=1e-5)
