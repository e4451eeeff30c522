"""A server without compare, as vLLM is: what the page does there, and what it says of the rest."""

import pytest
from browser.hands import (
    PLAIN,
    STEERED,
    button,
    drag,
    has,
    message,
    opened,
    place,
    said,
    says,
    send,
    states,
    view,
)
from browser.scripted import CHAT, COMPLETIONS
from browser.waiting import waited
from playwright.sync_api import expect


@pytest.fixture
def scripted(scripted):
    scripted.abilities |= {"sides": None, "judge": None, "max_tokens": None}
    return scripted


def both(scripted):
    """The steered request and the plain one."""
    waited(lambda: len(scripted.chats) >= 2, "two requests")
    return sorted(scripted.chats[:2], key=lambda each: each.asked is None)


def test_two_requests_with_one_seed(watched, scripted):
    page = opened(watched, scripted.url)
    place(page, 0.6, 0.4)
    send(page, "How are you?")
    states(page, "ended")
    steered, plain = both(scripted)
    assert steered.asked == {"valence": 0.6, "arousal": 0.4}
    assert plain.asked is None
    assert steered.body["seed"] == plain.body["seed"]
    assert steered.body["messages"] == [{"role": "user", "content": "How are you?"}]
    assert steered.body["model"] == "scripted"
    assert (said(page, STEERED), said(page, PLAIN)) == (steered.text, plain.text)
    assert {path for method, path in scripted.asked if method == "POST"} == {CHAT}


def test_moods_stay_in_mid_stream_and_the_page_says_so(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    place(page, 0.6, 0.4)
    send(page, "How are you?")
    steered, _ = both(scripted)
    steered.let(3)
    says(page, STEERED, "Glad0 glad1 glad2 ")
    drag(page, -0.5, -0.5)
    told = page.inner_text("body")
    assert "next message" in told or "mid-stream" in told or "keep" in told
    scripted.held = False
    for each in scripted.chats:
        each.open()
    states(page, "ended")
    assert not any("streams" in path for _, path in scripted.asked)
    assert said(page, STEERED) == steered.text
    send(page, "And now?")
    states(page, "ended")
    waited(lambda: len(scripted.chats) == 4, "two more requests")
    [later] = [each for each in scripted.chats[2:] if each.asked]
    assert later.asked["valence"] < 0


def test_stop_ends_both(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    requests = both(scripted)
    button(page, "Stop").click()
    states(page, "stopped")
    waited(lambda: all(each.left for each in requests), "both are left")


def test_one_that_fails_is_told_and_the_other_is_not_left_hanging(watched, scripted):
    watched.expect_refusals()
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    steered, plain = both(scripted)
    plain.let(2)
    steered.let(2)
    says(page, PLAIN, "Plain0 plain1 ")
    steered.fail("the engine died")
    has(page, STEERED, "failed")
    expect(page.locator("article.turn")).to_contain_text("The engine died.")
    plain.open()
    waited(lambda: plain.ended or plain.left, "the other one")
    open_ones = page.locator(".answer[data-state=waiting], .answer[data-state=writing]")
    expect(open_ones).to_have_count(0)


def test_a_model_without_a_template_goes_on_with_the_text(watched, scripted):
    scripted.abilities["chat"] = False
    page = opened(watched, scripted.url)
    send(page, "Once upon a time")
    states(page, "ended")
    steered, _ = both(scripted)
    assert steered.body["prompt"] == "Once upon a time"
    assert {path for method, path in scripted.asked if method == "POST"} == {COMPLETIONS}


def test_twelve_requests(watched, scripted):
    page = opened(watched, scripted.url)
    view(page, "Twelve moods")
    message(page).fill("How are you?")
    button(page, "Send").click()
    expect(page.locator(".state[data-angle] .text")).to_have_count(12)
    waited(lambda: len(scripted.chats) == 12, "twelve requests")
    waited(
        lambda: (
            sorted(page.locator(".state .text").all_text_contents())
            == sorted(each.text for each in scripted.chats)
        ),
        "twelve texts",
    )
    assert len({each.body["seed"] for each in scripted.chats}) == 1


def test_a_batch_that_is_too_small_for_twelve_still_does_for_two(watched, scripted):
    scripted.abilities["sides"] = 8
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    states(page, "ended")
    assert len(scripted.compares) == 1
    view(page, "Twelve moods")
    message(page).fill("How are you?")
    button(page, "Send").click()
    waited(lambda: len(scripted.chats) == 12, "twelve requests")
