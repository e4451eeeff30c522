"""Both managers give each request its own emotion, sampling and end."""

from __future__ import annotations

import asyncio
import copy

import pytest
import torch

pytest.importorskip("fastapi", reason="pip install 'emokernel[serve]'")

from transformers import ContinuousBatchingConfig

from emokernel import Request, patch
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.errors import EmokernelError, SteeringError
from emokernel.lab.measure.sampling import Sampling, sample
from emokernel.serve.engine import Batched, OneByOne, Turns, Wish, wish
from emokernel.serve.engine.texts import Streamer
from emokernel.serve.front.errors import UnavailableError
from emokernel.serve.strength import check_strength

PROMPT, MOST = "They told us that", 9


class Served:
    """A manager, asked as transformers' handlers ask it."""

    def __init__(self, kind):
        self.model, self.tokenizer = load_model()
        self.steering = patch(self.model, load_vectors())
        config = ContinuousBatchingConfig(num_blocks=64, max_batch_tokens=64)
        self.manager = (
            Batched(self.model, config, Turns())
            if kind == "batched"
            else OneByOne(self.model, self.steering, Turns())
        )
        self.manager.start()
        self.ids = self.tokenizer(PROMPT)["input_ids"]

    async def ask(self, own, most=MOST):
        """(The text, the ids) of an answer."""
        wish.set(own)
        config = copy.deepcopy(self.model.generation_config)
        config.max_new_tokens = most
        ids = self.ids
        inputs = {"input_ids": ids if isinstance(self.manager, Batched) else torch.tensor([ids])}
        text, read, found = await self.manager.generate_non_streaming(
            self.model, self.tokenizer, inputs, config, "x"
        )
        assert read == len(ids)
        return text, found

    def all(self, *wishes, most=MOST):
        """The texts of all of them, asked at once."""

        async def at_once():
            return await asyncio.gather(
                *(asyncio.create_task(self.ask(own, most)) for own in wishes)
            )

        return [text for text, _ in asyncio.run(at_once())]

    @property
    def held(self):
        return self.steering.requested.slots.held


@pytest.fixture(scope="module", params=["batched", "one by one"])
def served(request):
    made = Served(request.param)
    yield made
    made.manager.stop()


def test_each_request_is_steered_and_sampled_in_its_own_way(served):
    joy, anger = Request("joy", 1.5), Request("anger", 1.5)
    wishes = [
        Wish(), Wish(joy), Wish(anger, temperature=0.0),
        Wish(anger, temperature=0.9, top_p=0.9, seed=1), Wish(temperature=0.9, seed=2),
    ]  # fmt: skip
    alone = [served.all(own)[0] for own in wishes]
    assert len(set(alone)) == 5
    assert served.all(*wishes) == alone
    assert served.held == 0


def test_a_seed_gives_the_text_again_and_no_seed_another(served):
    seeded = [Wish(temperature=1.5, seed=3) for _ in range(2)]
    assert len(set(served.all(*seeded))) == 1
    free = [Wish(temperature=1.5) for _ in range(4)]
    assert len(set(served.all(*free))) > 1


def test_in_batches_a_seed_gives_what_the_lab_samples(served):
    if not isinstance(served.manager, Batched):
        pytest.skip("generate has random numbers of its own")
    own = Request("anger", 1.5)
    (text,) = served.all(Wish(own, temperature=0.9, top_p=0.8, seed=11))
    (ids,) = sample(
        served.model, served.tokenizer, [served.ids], Sampling(MOST, 0.9, 0.8), seeds=[[11]],
        steering=served.steering, requests=[own],
    )  # fmt: skip
    assert text == served.tokenizer.decode(ids, skip_special_tokens=True)


def test_an_answer_ends_before_a_stop(served):
    (whole,) = served.all(Wish())
    stop = whole.split()[2]
    (cut,) = served.all(Wish(stop=("no such text", stop)))
    assert cut == whole[: whole.index(stop)]
    assert served.held == 0


def test_who_leaves_frees_the_slot_within_a_token(served):
    async def leave():
        task = asyncio.create_task(served.ask(Wish(Request("joy", 1.5), temperature=1.5), 200))
        while not served.held:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(1000):
            if not served.held:
                return
            await asyncio.sleep(0.001)

    asyncio.run(leave())
    assert served.held == 0
    assert served.all(Wish())  # and others go on


def test_what_does_not_fit_the_model_is_refused_and_told(served):
    with pytest.raises(EmokernelError, match="do not fit the 256 tokens"):
        served.all(Wish(limited=True), most=300)
    (text,) = served.all(Wish(), most=300)  # nobody asked for so many
    assert text


def test_timings_hear_of_each_token(served):
    class Count:
        tokens = 0

        def token(self):
            self.tokens += 1

    count, read = Count(), []

    async def ask():
        return await served.ask(Wish(timing=count, read=read.append))

    _, ids = asyncio.run(ask())
    assert count.tokens == len(ids)
    assert read == [len(served.ids)]


def test_a_model_that_gives_nan_fails_the_request_and_no_other(served, monkeypatch):
    if not isinstance(served.manager, Batched):
        pytest.skip("one request after the other")
    (whole,) = served.all(Wish())
    bad = []

    def spoil(module, inputs, output):
        if bad:
            output[..., 0, :] = torch.nan
            bad.pop()
        return output

    hook = served.model.lm_head.register_forward_hook(spoil)
    try:
        bad.append(True)
        with pytest.raises(EmokernelError, match="NaN or infinite logits"):
            served.all(Wish(Request("joy", 1.5)))
        assert served.all(Wish()) == [whole]
    finally:
        hook.remove()


@pytest.mark.parametrize("dose", ["absolute", "relative"])
def test_the_strongest_request_that_is_let_in_leaves_those_beside_it_alone(served, dose):
    """What is refused would give NaN in the rows of all that run with it."""

    def lets_in(exponent):
        try:
            check_strength(served.steering, Request("joy", 10.0**exponent, law="add", dose=dose))
        except SteeringError:
            return False
        return True

    exponent = max(each / 4 for each in range(160) if lets_in(each / 4))
    assert 0 < exponent < 30
    strongest = Request("joy", 10.0**exponent, law="add", dose=dose)
    wishes = Wish(), Wish(Request("anger", 1.5))
    alone = [served.all(own)[0] for own in wishes]
    assert served.all(*wishes, Wish(strongest))[:2] == alone
    with pytest.raises(SteeringError, match="overflow"):
        check_strength(served.steering, Request("joy", 1e37, law="add", dose=dose))


def test_a_strength_that_is_scaled_back_cannot_overflow(served):
    check_strength(served.steering, Request("joy", 1e37, law="preserve"))


def test_a_long_prompt_that_is_read_in_pieces_leaves_those_beside_it_alone(served):
    """Its steps have rows of which no token is wanted, behind those of the others."""
    (alone,) = served.all(Wish(temperature=1.0, seed=6), most=40)
    short, served.ids = served.ids, served.ids * 30  # 150 tokens, in steps of 64 at most
    try:
        (long_alone,) = served.all(Wish(temperature=1.0, seed=7), most=20)

        async def both():
            own = Wish(temperature=1.0, seed=6), Wish(temperature=1.0, seed=7)
            served.ids = short
            first = asyncio.create_task(served.ask(own[0], 40))
            await asyncio.sleep(0.02)
            served.ids = short * 30
            second = asyncio.create_task(served.ask(own[1], 20))
            return [text for text, _ in await asyncio.gather(first, second)]

        assert asyncio.run(both()) == [alone, long_alone]
    finally:
        served.ids = short


def test_what_cannot_be_read_fails_its_request_and_keeps_nothing_from_others(served, monkeypatch):
    if not isinstance(served.manager, Batched):
        pytest.skip("one request after the other")
    (whole,) = served.all(Wish())
    taken = Streamer.take

    def take(streamer, ids):
        if streamer._wish.seed == 13:
            raise ValueError("no such token")
        taken(streamer, ids)

    monkeypatch.setattr(Streamer, "take", take)

    async def both():
        asked = [asyncio.create_task(served.ask(own)) for own in (Wish(seed=13), Wish())]
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20)

    failed, (text, _) = asyncio.run(both())
    assert isinstance(failed, UnavailableError)
    assert text == whole
    assert not served.manager._ids
