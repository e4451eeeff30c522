"""A compare is changed in mid-stream, ends when nobody listens, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from serve.emotions.served import PROMPT, Comparing, asking, compared
from serve.front.calls import Call, is_refusal
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from uncached import forget

from emokernel import Affect, Request
from emokernel.errors import NoFreeSlotError
from emokernel.lab.measure.sampling import Sampling, Writing
from emokernel.serve.emotions import streams
from emokernel.serve.emotions.streams import Held

# Long texts: which side ends is no matter here.
LONG = {"max_tokens": 40, "temperature": 1.5, "top_p": 1.0}


@pytest.fixture
def endless(embedded, monkeypatch):
    """The model writes on and on."""
    model, tokenizer, _ = embedded
    monkeypatch.setattr(model.generation_config, "eos_token_id", None)
    kept, tokenizer.eos_token = tokenizer.eos_token, None
    yield
    tokenizer.eos_token = kept


async def changed(served, token, emotions, **fields):
    call = Call(f"/v1/emotions/streams/{token}", {"emotions": emotions, **fields})
    return await call.serve(served.app)


def begun(served, **fields):
    """A compare that runs, and its task."""
    call = Comparing(asking(**LONG | fields))
    return call, asyncio.ensure_future(call.serve(served.app))


@pytest.mark.parametrize(
    ("fields", "again"), [({}, True), ({"again": True}, True), ({"again": False}, False)]
)
def test_a_change_holds_from_the_next_token_on(fields, again, served, embedded, endless):
    model, tokenizer, steering = embedded
    second = ["anger", {"valence": -0.9, "arousal": -0.3, "positions": "generated"}, None]

    async def run():
        served.turns.shut()
        call, task = begun(served)
        served.turns.let(4)
        await call.until_step(3)
        # The next step has its number already, and waits for its turn: nothing of it is decided.
        await call.until(lambda: served.turns.waiting)
        answer = await changed(served, call.events[0]["stream"], second, **fields)
        served.turns.let(100)
        await task
        return call, answer

    call, answer = asyncio.run(run())
    assert answer.status == 200
    step = answer.json["from_step"]
    assert step == 4
    told = answer.json["emotions"]
    assert [each and each["emotion"] for each in told] == [
        "anger", {"valence": -0.9, "arousal": -0.3}, None
    ]  # fmt: skip
    (at,) = [n for n, event in enumerate(call.events) if event["type"] == "changed"]
    event = call.events[at]
    assert (event["step"], event["emotions"], event["again"]) == (step, told, again)
    assert {each["step"] for each in call.events[1:at]} == set(range(step))
    assert min(each["step"] for each in call.events[at + 1 : -1]) == step

    ids = tokenizer(PROMPT)["input_ids"]
    writing = Writing(
        model, tokenizer, [ids] * 3, Sampling(40, 1.5, 1.0), seeds=[(3,)] * 3, steering=steering,
        requests=[None, Request("joy"), Request("fear")], one_shape=True,
    )  # fmt: skip
    steps = []
    for tokens in writing:
        steps.append(tokens)
        if len(steps) == step:
            writing.change([
                Request("anger"), Request(Affect(-0.9, -0.3), positions="generated"), None
            ], again)  # fmt: skip
    before = tokenizer.decode(ids, skip_special_tokens=True)
    wanted = [
        tokenizer.decode(ids + [tokens[side] for tokens in steps], skip_special_tokens=True)
        for side in range(3)
    ]
    assert call.texts == [text[len(before) :] for text in wanted]
    unchanged = compared(served, asking(**LONG)).texts
    assert all(a != b for a, b in zip(call.texts, unchanged, strict=True))


def test_a_model_without_a_cache_reads_again_whatever_was_asked_and_says_so(
    served, embedded, endless, monkeypatch
):
    async def run(again):
        served.turns.shut()
        call, task = begun(served, emotions=[None, "joy"])
        served.turns.let(2)
        await call.until_step(1)
        await call.until(lambda: served.turns.waiting)
        await changed(served, call.events[0]["stream"], ["anger", "joy"], again=again)
        served.turns.let(100)
        await task
        return call

    kept = asyncio.run(run(True)).texts
    forget(embedded[0], monkeypatch)
    for again in (True, False):
        call = asyncio.run(run(again))
        (event,) = [event for event in call.events if event["type"] == "changed"]
        assert event["again"]
        assert call.events[-1]["type"] == "done"
        assert call.texts == kept


def test_of_several_changes_before_a_step_the_last_one_holds(served, endless):
    async def run():
        served.turns.shut()
        call, task = begun(served, emotions=[None, "joy"])
        served.turns.let(2)
        await call.until_step(1)
        await call.until(lambda: served.turns.waiting)
        token = call.events[0]["stream"]
        answers = [await changed(served, token, [name, None]) for name in ("anger", "love", "fear")]
        assert served.steering.requested.slots.held == 2  # joy, and fear alone of the three
        served.turns.let(100)
        await task
        return call, answers

    call, answers = asyncio.run(run())
    assert [answer.json["from_step"] for answer in answers] == [2, 2, 2]
    (event,) = [event for event in call.events if event["type"] == "changed"]
    assert event["emotions"][0]["emotion"] == "fear"


def test_a_change_before_the_first_token_holds_for_the_prompt_too(served, endless):
    async def run():
        served.turns.shut()
        call, task = begun(served, emotions=[None, "joy"])
        await call.until(lambda: served.turns.waiting)
        answer = await changed(served, call.events[0]["stream"], ["joy", None], again=False)
        served.turns.let(100)
        await task
        return call, answer

    call, answer = asyncio.run(run())
    assert answer.json["from_step"] == 0
    assert [event["type"] for event in call.events[:2]] == ["start", "changed"]
    assert call.events[1]["again"]  # nothing was read under the emotions before
    swapped = compared(served, asking(**LONG, emotions=["joy", None]))
    assert call.texts == swapped.texts


@pytest.mark.parametrize(
    ("emotions", "status", "message"),
    [
        (["joyy", None], 400, "emotions[0]: unknown emotion 'joyy'"),
        ([None], 400, "this stream has 2 sides: give as many emotions, not 1"),
        ([None] * 3, 400, "this stream has 2 sides"),
        (["joy", {"emotion": "joy", "strength": True}], 400, "emotions[1].strength must be"),
        ([], 400, "emotions needs at least 1"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(served, endless, emotions, status, message):
    async def run():
        served.turns.shut()
        call, task = begun(served, emotions=[None, "joy"])
        served.turns.let(2)
        await call.until_step(1)
        answer = await changed(served, call.events[0]["stream"], emotions)
        served.turns.let(100)
        await task
        return call, answer

    call, answer = asyncio.run(run())
    assert answer.status == status
    assert is_refusal(answer)
    assert message in answer.json["detail"]
    assert "changed" not in {event["type"] for event in call.events}
    assert call.texts == compared(served, asking(**LONG, emotions=[None, "joy"])).texts


def test_a_change_without_slots_is_refused_and_the_stream_goes_on(served, endless):
    async def run():
        served.turns.shut()
        call, task = begun(served, emotions=["joy", "fear"])
        served.turns.let(2)
        await call.until_step(1)
        others = ["anger", "disgust", "love", "caring", "sadness", "surprise"]
        held = Held(served.steering, [Request(name) for name in others])
        answer = await changed(served, call.events[0]["stream"], ["optimism", "joy"])
        served.turns.let(100)
        await task
        held.release()
        return call, answer

    call, answer = asyncio.run(run())
    assert answer.status == 503
    assert "no more slots" in answer.json["detail"]
    assert call.events[-1]["type"] == "done"


def test_streams_that_are_not_there_or_cannot_change_are_told(served):
    ended = compared(served, asking()).events[0]["stream"]

    async def run(token):
        return await changed(served, token, [None, "joy", "fear"])

    for token in (ended, "x", "%F0%9F%99%82", "-" * 200):
        answer = asyncio.run(run(token))
        assert answer.status == 404
        assert "no such stream" in answer.json["detail"]
        assert is_refusal(answer)
    assert asyncio.run(run("-" * 201)).status == 400
    answer = asyncio.run(run("chatcmpl-1"))
    assert answer.status == 409
    assert "keeps the emotion that it began with" in answer.json["detail"]


def test_a_token_is_of_its_stream_alone(served, endless):
    async def run():
        served.turns.shut()
        first, one = begun(served, emotions=["joy"])
        second, other = begun(served, emotions=[None])
        served.turns.let(4)
        await first.until_step(1)
        await second.until_step(1)
        await changed(served, first.events[0]["stream"], ["fear"])
        served.turns.let(200)
        await asyncio.gather(one, other)
        return first, second

    first, second = asyncio.run(run())
    assert first.events[0]["stream"] != second.events[0]["stream"]
    assert "changed" in {event["type"] for event in first.events}
    assert "changed" not in {event["type"] for event in second.events}


@pytest.mark.parametrize("steps", [0, 3])
def test_who_leaves_ends_it_within_a_step(served, endless, steps):
    async def run():
        served.turns.shut()
        call, task = begun(served)
        if steps:
            served.turns.let(steps)
            await call.until_step(steps - 1)
        await call.until(lambda: served.turns.waiting)
        assert served.steering.requested.slots.held == 2
        call.leave()
        await asyncio.sleep(0.05)
        served.turns.let(1)  # the step that has begun is made, and none behind it
        async with asyncio.timeout(20):
            await task
        assert served.free
        return call

    call = asyncio.run(run())
    assert len(served.turns.threads) == steps + 1
    assert served.metrics.hang_ups == 1
    answer = asyncio.run(changed(served, call.events[0]["stream"], [None] * 3))
    assert answer.status == 404
    served.turns.let(100)
    assert compared(served, asking()).events[-1]["type"] == "done"


def test_who_leaves_while_the_prompt_is_read_ends_it(served, monkeypatch):
    reading, go_on = threading.Event(), threading.Event()
    model, tokenizer = served.service.loaded()

    def loaded():
        reading.set()
        assert go_on.wait(5)
        return model, tokenizer

    served.service.loaded = loaded

    async def run():
        call, task = begun(served)
        await call.until(reading.is_set)
        call.leave()
        async with asyncio.timeout(20):
            await task
        go_on.set()
        assert served.free
        assert not call.answer.status

    asyncio.run(run())
    assert not served.turns.threads


def test_what_is_forgotten_gives_its_slots_back(served):
    held = Held(served.steering, [Request("joy"), None, Request("fear")])
    assert served.steering.requested.slots.held == 2
    held.release()
    held.release()
    assert served.steering.requested.slots.held == 0
    held = Held(served.steering, [Request("joy")])
    del held
    assert served.steering.requested.slots.held == 0
    with pytest.raises(NoFreeSlotError):
        Held(served.steering, [Request("joy", strength / 10) for strength in range(1, 10)])
    assert served.steering.requested.slots.held == 0


@pytest.mark.parametrize("expected", [True, False])
def test_what_fails_in_mid_stream_is_told_and_leaves_the_others_alone(
    served, endless, monkeypatch, caplog, expected
):
    async def run():
        served.turns.shut()
        calls = dict(reversed(begun(served, seed=seed)) for seed in (3, 4))
        one = next(iter(calls.values()))
        await one.until(lambda: served.turns.waiting)
        while not all('"text"' in call.answer.body.decode() for call in calls.values()):
            come = len(served.turns.threads)
            served.turns.let(1)
            await one.until(lambda come=come: len(served.turns.threads) > come)
        weights = served.service.loaded()[0].lm_head.weight
        kept = weights.detach().clone()
        with monkeypatch.context() as patched:
            if expected:
                weights.data.fill_(torch.nan)
            else:
                patched.setattr(Writing, "__next__", lambda self: {}["a secret"])
            served.turns.let(1)
            await one.until(lambda: any(b'"error"' in c.answer.body for c in calls.values()))
            weights.data.copy_(kept)
        served.turns.let(100)
        await asyncio.gather(*calls)
        return list(calls.values())

    failed, other = sorted(asyncio.run(run()), key=lambda call: len(call.events))
    assert failed.answer.ended
    assert failed.answer.body.endswith(b"data: [DONE]\n\n")
    event = failed.events[-1]
    assert event["type"] == "error"
    if expected:
        assert "NaN or infinite logits" in event["message"]
    else:
        assert event["message"] == "the server failed; the log has it"
        assert "a secret" in caplog.text
    assert other.events[-1]["type"] == "done"
    seed = other.events[0]["seed"]
    assert other.texts == compared(served, asking(**LONG, seed=seed)).texts


class Scripted:
    """Writes the tokens that it is given."""

    tokens: list[int]

    def __init__(self, model, tokenizer, contexts, *args, **kwargs):
        self._rows, self._left = len(contexts), iter(self.tokens)

    def __next__(self):
        token = next(self._left)
        return {} if token is None else dict.fromkeys(range(self._rows), token)

    def close(self):
        pass


@pytest.mark.parametrize(
    ("template", "text"), [(None, " world"), ("{{ messages[0]['content'] }}", "world")]
)
def test_a_text_that_goes_on_keeps_the_space_it_goes_on_with(served, monkeypatch, template, text):
    """With a tokenizer whose decoder takes the space from the first word of a text."""
    words = Tokenizer(models.WordLevel({"▁Hello": 0, "▁world": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, chat_template=template)
    model = served.service.loaded()[0]
    served.service.loaded = lambda: (model, tokenizer)
    monkeypatch.setattr(Scripted, "tokens", [1, None], raising=False)
    monkeypatch.setattr(streams, "Writing", Scripted)
    call = compared(served, asking(prompt="Hello", emotions=[None]))
    assert call.texts == [text]


@pytest.mark.parametrize("text", ["naïve 🙂🙂 café", " — “so”", "日本語"])
@pytest.mark.parametrize("cut", [0, 1])
def test_characters_are_whole_whatever_tokens_they_are_made_of(
    served, monkeypatch, embedded, text, cut
):
    tokenizer = embedded[1]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(ids) > len(text.split())
    monkeypatch.setattr(Scripted, "tokens", [*ids[: len(ids) - cut], None], raising=False)
    monkeypatch.setattr(streams, "Writing", Scripted)
    call = compared(served, asking(emotions=[None], max_tokens=200))
    (found,) = call.texts
    assert text.startswith(found)
    assert "\ufffd" not in found
    assert len(found) >= len(text) - 1 - 3 * cut
    assert cut or found == text
