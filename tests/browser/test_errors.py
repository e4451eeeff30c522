"""What the server will not, and what becomes of the page where it is gone."""

import pytest
from browser.hands import (
    PLAIN,
    STEERED,
    button,
    message,
    opened,
    place,
    point,
    ready,
    said,
    send,
    states,
)
from browser.scripted import COMPARE, EMOTIONS
from browser.waiting import waited
from playwright.sync_api import expect


def alerts(page):
    """The sentences of all alerts that are shown."""
    return [each.inner_text() for each in page.get_by_role("alert").all() if each.is_visible()]


def are_told(page, sentence):
    """Whether an alert says it, as a sentence."""
    told = sentence[0].upper() + sentence[1:]
    return any(told in each for each in alerts(page))


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (400, "emotions[0]: strength 900 would overflow"),
        (503, "there is no slot left for this mix"),
        (500, "the server failed; its log has it under the id 12"),
    ],
)
def test_a_refusal_is_said_in_the_servers_words_and_the_message_stays(
    watched, scripted, status, sentence
):
    watched.expect_refusals()
    page = opened(watched, scripted.url)
    scripted.refuse(COMPARE, status, sentence)
    send(page, "How are you?")
    waited(lambda: are_told(page, sentence), "the sentence")
    assert not page.locator(".answer").count()
    assert message(page).input_value() == "How are you?"
    button(page, "Send").click()
    states(page, "ended")
    assert scripted.compare().body["messages"] == [{"role": "user", "content": "How are you?"}]
    assert not are_told(page, sentence)


def test_a_full_queue_is_told_of_with_the_time_to_ask_again(watched, scripted):
    watched.expect_refusals()
    page = opened(watched, scripted.url)
    scripted.refuse(COMPARE, 429, "256 requests wait already", retry_after="7")
    send(page, "How are you?")
    waited(lambda: are_told(page, "256 requests wait already"), "the sentence")
    assert any("7 s" in each for each in alerts(page))
    assert message(page).input_value() == "How are you?"
    button(page, "Send").click()
    states(page, "ended")
    compare = scripted.compare()
    assert said(page, PLAIN) == compare.texts[compare.body["emotions"].index(None)]
    assert not alerts(page)


def test_what_was_written_meanwhile_is_not_lost_to_a_refusal(watched, scripted):
    watched.expect_refusals()
    scripted.slow.add(COMPARE)
    page = opened(watched, scripted.url)
    scripted.refuse(COMPARE, 503, "the server is being stopped: ask another one")
    send(page, "How are you?")
    message(page).fill("Something else")
    scripted.slow.clear()
    waited(lambda: are_told(page, "the server is being stopped"), "the sentence")
    assert message(page).input_value() == "Something else"


def test_a_change_that_is_refused_is_told_beside_the_disc(watched, scripted):
    watched.expect_refusals()
    scripted.held = True
    page = opened(watched, scripted.url)
    place(page, 0.5, 0.5)
    send(page, "How are you?")
    compare = scripted.compare()
    compare.let(2)
    waited(lambda: said(page, PLAIN) == "Plain0 plain1 ", "two words")
    path = f"/v1/emotions/streams/{compare.token}"
    scripted.refuse(path, 503, "all 256 slots are taken", retry_after="1")
    place(page, -0.5, 0.5)
    told = page.locator("#panel").get_by_role("alert")
    expect(told.first).to_contain_text("ll 256 slots are taken")
    assert not compare.changes
    point(page).click()  # touched, and where it was: it is asked for once more
    expect(told.first).to_be_hidden()
    waited(lambda: compare.changes, "the change")
    compare.open()
    states(page, "ended")


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(contexts, scripted):
    scripted.stop()
    scripted.key = "open-sesame"
    scripted.start()
    watched = contexts(scripted.url, permissions=["clipboard-read", "clipboard-write"])
    watched.expect_refusals()
    page = watched.context.new_page()
    page.goto(scripted.url)
    given = page.get_by_role("dialog").get_by_label("Key")
    expect(given).to_be_focused()
    given.fill("wrong")
    given.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("does not take this key")
    given.fill("open-sesame")
    given.press("Enter")
    ready(page)
    expect(page.get_by_role("dialog")).to_be_hidden()
    send(page, "How are you?")
    states(page, "ended")
    page.reload()
    ready(page)
    expect(page.get_by_role("dialog")).to_be_hidden()
    button(page, "Copy link").click()
    expect(button(page, "Copied")).to_be_visible()
    assert "sesame" not in page.evaluate("navigator.clipboard.readText()") + page.url
    assert "sesame" not in page.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert not any("sesame" in each for each in watched.requested)
    other = watched.context.new_page()
    other.goto(scripted.url)
    expect(other.get_by_role("dialog").get_by_label("Key")).to_be_visible()


def test_the_server_gone_and_back(watched, scripted):
    watched.expect_refusals()
    page = opened(watched, scripted.url)
    place(page, -0.3, 0.3)
    send(page, "How are you?")
    states(page, "ended")
    before = said(page, STEERED)
    banner = page.locator("#banner")
    with scripted.gone():
        send(page, "Are you there?")
        expect(banner).to_be_visible()
        expect(banner).to_contain_text("does not answer")
        message(page).fill("A draft")
        page.wait_for_timeout(1500)
        expect(banner).to_be_visible()
        assert said(page, STEERED, 0) == before
    expect(banner).to_contain_text("back", timeout=15_000)
    expect(banner).to_be_hidden(timeout=15_000)
    assert message(page).input_value() == "A draft"
    assert said(page, STEERED, 0) == before
    button(page, "Send").click()
    states(page, "ended")
    assert scripted.compares[-1].body["messages"][-1]["content"] == "A draft"


def test_gone_in_mid_stream(watched, scripted):
    watched.expect_refusals()
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    scripted.compare().let(3)
    page.locator('.answer[data-state="writing"]').first.wait_for()
    waited(lambda: said(page, PLAIN) == "Plain0 plain1 plain2 ", "three words")
    with scripted.gone():
        states(page, "failed")
        expect(page.locator("#banner")).to_be_visible()
        assert said(page, PLAIN) == "Plain0 plain1 plain2 "
    expect(page.locator("#banner")).to_contain_text("back", timeout=15_000)


def test_a_page_that_is_not_yet_drawn_is_not_shown(watched, scripted):
    scripted.slow.add(EMOTIONS)
    page = watched.context.new_page()
    page.goto(scripted.url)
    expect(page.locator("#starting")).to_be_visible()
    expect(message(page)).to_be_hidden()
    assert not page.locator("body[data-ready]").count()
    scripted.slow.clear()
    ready(page)
    expect(page.locator("#starting")).to_be_hidden()
    expect(message(page)).to_be_visible()


def test_a_server_that_is_not_ready_is_told_of(watched, scripted):
    watched.expect_refusals()
    scripted.refuse(EMOTIONS, 503, "the server is being stopped: ask another one")
    page = watched.context.new_page()
    page.goto(scripted.url)
    expect(page.locator("#starting")).to_contain_text("the server is being stopped")
    page.reload()
    ready(page)


def test_a_change_that_is_lost_is_told_while_the_text_goes_on(watched, scripted):
    watched.expect_refusals()
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    compare = scripted.compare()
    compare.let(2)
    waited(lambda: said(page, PLAIN) == "Plain0 plain1 ", "two words")
    path = f"**/v1/emotions/streams/{compare.token}"
    page.route(path, lambda route: route.abort())
    place(page, -0.5, 0.5)
    told = page.locator("#panel").get_by_role("alert")
    expect(told.first).to_contain_text("does not answer")
    page.unroute(path)
    place(page, -0.5, 0.4)
    expect(told.first).to_be_hidden()
    waited(lambda: compare.changes, "the change")
    compare.open()
    states(page, "ended")


def test_the_only_message_asked_again_and_refused_keeps_what_was_read(watched, scripted):
    watched.expect_refusals()
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    states(page, "ended")
    expect(page.locator("#readings li")).to_have_count(6)
    scripted.refuse(COMPARE, 503, "there is no slot left")
    button(page, "Again").click()
    expect(page.locator("#send-error")).to_contain_text("no slot left")
    for part in ("#line", "#readings"):
        expect(page.locator(part)).to_be_visible()


def test_escape_before_the_server_has_answered_says_nothing_of_the_browser(watched, scripted):
    scripted.slow.add(EMOTIONS)
    page = watched.context.new_page()
    page.goto(scripted.url)
    waited(lambda: ("GET", EMOTIONS) in scripted.asked, "the question")
    page.keyboard.press("Escape")
    expect(page.locator("#starting")).to_have_text("Asking the server…")
    scripted.slow.clear()
    ready(page)
