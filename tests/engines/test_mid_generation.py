"""Streaming, and emotions that change while a text is generated."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from contextvars import copy_context
from threading import Thread

import pytest
import torch
from engines.oracle import assert_steps, teacher_forced
from transformers import LogitsProcessorList, TextIteratorStreamer, TextStreamer
from transformers.generation.streamers import BaseStreamer

from emokernel import Request
from emokernel.errors import SteeringError

STEPS, CHANGED = 6, 2  # the change is asked for when the logits of step 2 are there
JOY, ANGER = Request("joy", 4.0), Request("anger", 4.0, law="add")
OPTIONS = {
    "do_sample": False, "max_new_tokens": STEPS, "output_logits": True,
    "return_dict_in_generate": True,
}  # fmt: skip


class At(BaseStreamer):
    """Does something at one step, as a streamer or as a logits processor."""

    def __init__(self, action, step=CHANGED):
        self.action, self.step, self.calls = action, step, -1

    def _count(self):
        if self.calls == self.step:
            self.action()
        self.calls += 1

    def put(self, value):  # the prompt comes first
        self._count()

    def end(self):
        pass

    def __call__(self, ids, scores):
        if self.calls < 0:
            self.calls = 0
        self._count()
        return scores


def generate_with(kind, action, model, ids, mask, **options):
    given = {"streamer": At(action)} if kind == "streamer" else {}
    if kind == "processor":
        given["logits_processor"] = LogitsProcessorList([At(action)])
    return model.generate(ids, attention_mask=mask, **given, **OPTIONS, **options)


def steered_until(text, mask, end):
    """(No padding; the columns before ``end`` that are none; those from ``end`` on)."""
    real = torch.cat([mask, torch.ones(len(text), text.shape[1] - 7, dtype=torch.long)], 1).bool()
    before = torch.arange(text.shape[1]) < end
    return real, real & before, real & ~before


def assert_changed(output, mask, before, after, plain, emotions):
    """``before`` steered all before the token that the step of the change chose, ``after`` it."""
    text = output.sequences
    real, early, late = steered_until(text, mask, 7 + CHANGED)
    full = teacher_forced(plain, emotions, text, real, 7, (before, early), (after, late))
    assert_steps(output.logits, full, 7)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("kind", ["streamer", "processor"])
@pytest.mark.parametrize("change", ["another", "off", "on"])
def test_what_is_set_on_the_way_holds_from_the_next_token_on(
    change, kind, cache, pair, padded, emotions
):
    plain, model, steering = pair()
    ids, mask = padded("no" if kind == "streamer" else "left")
    ids, mask = (ids[:1], mask[:1]) if kind == "streamer" else (ids, mask)
    before = Request(None) if change == "on" else JOY
    after = Request(None) if change == "off" else ANGER

    def ask(request):
        steering.set(request.emotion, request.strength, law=request.law)

    ask(before)
    output = generate_with(kind, lambda: ask(after), model, ids, mask, cache_implementation=cache)
    assert_changed(output, mask, [before] * len(ids), [after] * len(ids), plain, emotions)


def test_without_a_cache_a_change_holds_for_the_text_so_far_too(pair, padded, emotions):
    # Nothing is kept of how it was computed before.
    plain, model, steering = pair()
    ids, mask = padded()
    steering.set("joy", 4.0)
    output = generate_with(
        "processor", lambda: steering.set("anger", 4.0, law="add"), model, ids, mask,
        use_cache=False,
    )  # fmt: skip
    text = output.sequences
    real, *_ = steered_until(text, mask, 0)
    for request, steps in ((JOY, slice(0, 3)), (ANGER, slice(3, STEPS))):
        full = teacher_forced(plain, emotions, text, real, 7, ([request] * 4, real))
        assert_steps(output.logits[steps], full, 7 + steps.start)


@pytest.mark.parametrize("positions", ["prompt", "generated", "last"])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_positions_count_from_the_prompt_when_the_emotion_comes_late(
    cache, positions, pair, padded, emotions
):
    plain, model, steering = pair()
    ids, mask = padded()
    output = generate_with(
        "processor", lambda: steering.set("anger", 4.0, law="add", positions=positions),
        model, ids, mask, cache_implementation=cache,
    )  # fmt: skip
    after = Request(None) if positions == "prompt" else ANGER
    assert_changed(output, mask, [Request(None)] * 4, [after] * 4, plain, emotions)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_open_requests_change_sequence_by_sequence(cache, pair, padded, emotions):
    plain, model, steering = pair()
    ids, mask = padded()
    before = [JOY, None, ANGER, JOY]
    after = [JOY, JOY, None, Request("sadness", 3.0)]
    with steering.requests(before) as opened:
        output = generate_with(
            "processor", lambda: opened.change(after), model, ids, mask, cache_implementation=cache
        )
    assert_changed(output, mask, before, after, plain, emotions)


def test_requests_opened_on_the_way_hold_from_the_next_token_on(pair, padded, emotions):
    plain, model, steering = pair()
    ids, mask = padded()
    with ExitStack() as stack:
        output = generate_with(
            "processor", lambda: stack.enter_context(steering.requests([ANGER] * 4)),
            model, ids, mask,
        )  # fmt: skip
    assert_changed(output, mask, [None] * 4, [ANGER] * 4, plain, emotions)


def test_set_on_the_way_does_not_override_open_requests(pair, padded, emotions):
    plain, model, steering = pair()
    ids, mask = padded()
    with steering.requests([JOY] * 4):
        output = generate_with("processor", lambda: steering.set("anger", 4.0), model, ids, mask)
    assert_changed(output, mask, [JOY] * 4, [JOY] * 4, plain, emotions)


def test_a_change_that_fails_changes_nothing(pair, prompts):
    _, model, steering = pair()

    def logits():
        with torch.no_grad():
            return model(prompts).logits

    with steering.requests([JOY, None, ANGER, None]) as opened:
        wanted = logits()
        for bad, message in (([JOY], "cannot take the place"), (["joyy"] * 4, "joyy")):
            with pytest.raises((SteeringError, KeyError, ValueError), match=message):
                opened.change(bad)
        assert torch.equal(logits(), wanted)


def test_a_change_keeps_the_slots_it_needs_and_gives_back_the_others(pair):
    steering = pair()[2]
    with steering.requests([JOY, None, ANGER, None]) as opened:
        for _ in range(3):
            opened.change([JOY, Request("sadness"), None, None])
            assert steering.requested.slots.held == 2
            opened.change([None] * 4)
            assert steering.requested.slots.held == 0
    assert steering.requested.slots.held == 0


class Letters:
    """A tokenizer as far as a streamer needs one."""

    def decode(self, ids, **_):
        return "".join(chr(97 + int(i) % 26) + " " for i in ids)


@pytest.mark.parametrize("how", ["inherited", "copied", "own"])
def test_a_streamer_in_a_thread_has_the_requests_of_the_block(how, pair, padded, emotions):
    plain, model, steering = pair()
    ids, mask = padded("no")
    ids, mask = ids[:1], mask[:1]
    streamer, outputs = TextIteratorStreamer(Letters(), skip_prompt=True), []

    def run():
        outputs.append(model.generate(ids, attention_mask=mask, streamer=streamer, **OPTIONS))

    def run_for_nothing():
        with steering.requests([None]):
            run()

    with warnings.catch_warnings(record=True) as notices, steering.requests([JOY]):
        warnings.simplefilter("always")
        copied = copy_context()
        targets = {"inherited": run, "copied": lambda: copied.run(run), "own": run_for_nothing}
        thread = Thread(target=targets[how])
        thread.start()
        said = "".join(streamer)
        thread.join()
    assert len(notices) == (how == "inherited")
    request = Request(None) if how == "own" else JOY
    assert_changed(outputs[0], mask, [request], [request], plain, emotions)
    assert said == Letters().decode(outputs[0].sequences[0, 7:])


def test_a_copied_context_does_not_outlive_its_generation(pair, padded):
    """A call in it is a plain one when the generation has ended: all that it is given is prompt."""
    _, model, steering = pair()
    ids, mask = padded("no")
    steering.set("joy", 4.0, positions="generated")
    contexts = []
    generate_with(
        "processor", lambda: contexts.append(copy_context()), model, ids, mask, use_cache=False
    )

    def logits():
        with torch.no_grad():
            return model(torch.cat([ids, ids], 1)).logits

    assert torch.equal(contexts[0].run(logits), logits())


def test_streamed_text_is_the_text(pair, padded, emotions, capsys):
    plain, model, steering = pair()
    ids, mask = padded("no")
    with steering.requests([JOY]):
        output = model.generate(
            ids[:1], streamer=TextStreamer(Letters(), skip_prompt=True), **OPTIONS
        )
    assert_changed(output, mask[:1], [JOY], [JOY], plain, emotions)
    assert capsys.readouterr().out.strip() == Letters().decode(output.sequences[0, 7:]).strip()
