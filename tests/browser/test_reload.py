"""A talk outlives its page: it stands there again as it was, and goes on."""

import json
from itertools import chain

import pytest
from browser.hands import (
    PLAIN,
    STEERED,
    answer,
    button,
    drag,
    has,
    opened,
    place,
    ready,
    said,
    send,
    states,
    turn,
)
from browser.scripted import EMOTIONS
from browser.waiting import waited
from playwright.sync_api import expect

KEPT = "emokernel-talk-1"
ROOM = """
const keep = Storage.prototype.setItem;
Storage.prototype.setItem = function (name, value) {
  if (value.length > 4500) throw new DOMException("full", "QuotaExceededError");
  keep.call(this, name, value);
};
"""
UNSEEN = """
Object.defineProperty(Document.prototype, "hidden", { get: () => true });
for (const name of ["pagehide", "visibilitychange"]) {
  addEventListener(name, (event) => event.stopImmediatePropagation(), true);
}
"""


def reloaded(page):
    page.reload()
    ready(page)


def radio(page, side):
    """From which answer the talk goes on."""
    return page.get_by_role("radio", name=side, exact=True)


def is_read(page):
    """Wait until the judge has told all of a turn of twelve words, five to a sentence."""
    expect(page.locator("#readings li")).to_have_count(6)


def shown(page):
    """The answers with their colours, what was read of them, and where that is drawn."""
    page.wait_for_timeout(400)  # colours may fade in, and lines are drawn with the next frame
    return page.evaluate(
        """() => [...document.querySelectorAll(
            "#turns .said, #turns .answer, #lanes, #readings li, #disc .mark")]
            .map((element) => element.outerHTML)"""
    )


def test_all_of_a_talk_is_there_again_and_goes_on(watched, scripted):
    page = opened(watched, scripted.url)
    place(page, 0.6, 0.4)
    send(page, "How are you?")
    states(page, "ended")
    is_read(page)
    scripted.held = True
    send(page, "And <b>now</b>?")
    compare = scripted.compare(1)
    compare.let(3)
    has(page, STEERED, "writing")
    earlier = len(scripted.read)
    drag(page, -0.7, 0.5)
    waited(lambda: compare.changes and compare.changes[-1]["again"], "the change")
    compare.open()
    states(page, "ended")
    radio(page, PLAIN).check()
    is_read(page)
    before = shown(page)
    assert sum("flag" in each for each in before) == 1
    read = sorted(chain(*scripted.read[earlier:]))

    for _ in range(2):
        asked = len(scripted.read)
        reloaded(page)
        is_read(page)
        assert shown(page) == before
        expect(radio(page, PLAIN)).to_be_checked()
        expect(page.locator("#empty")).to_be_hidden()
        expect(page.locator("#aloud")).to_be_empty()
        assert sorted(chain(*scripted.read[asked:])) == read  # of the turn whose marks are shown
    assert len(scripted.compares) == 2

    scripted.held = False
    send(page, "Go on.")
    states(page, "ended")
    first = scripted.compare()
    assert scripted.compare(2).body["messages"] == [
        {"role": "user", "content": "How are you?"},
        {"role": "assistant", "content": first.texts[first.body["emotions"].index(None) - 1]},
        {"role": "user", "content": "And <b>now</b>?"},
        {"role": "assistant", "content": compare.texts[compare.body["emotions"].index(None)]},
        {"role": "user", "content": "Go on."},
    ]


def test_what_was_being_written_is_there_as_far_as_it_had_come(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    compare = scripted.compare()
    compare.let(3)
    has(page, STEERED, "writing")
    waited(lambda: said(page, PLAIN).count(" ") == 3, "three words")
    text = said(page, STEERED)
    reloaded(page)
    waited(lambda: compare.left, "the page has hung up")
    states(page, "stopped")
    assert said(page, STEERED) == text
    scripted.held = False
    button(page, "Again").click()
    states(page, "ended")
    assert scripted.compare(1).body == compare.body


def test_a_message_without_an_answer_is_there(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    scripted.compare()
    reloaded(page)
    expect(turn(page)).to_contain_text("How are you?")
    states(page, "stopped")


def test_what_was_broken_off_says_why(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    scripted.compare().let(2)
    has(page, STEERED, "writing")
    scripted.compare().fail("no more memory")
    states(page, "failed")
    before = shown(page)
    reloaded(page)
    states(page, "failed")
    expect(answer(page, PLAIN)).to_contain_text("No more memory")
    assert shown(page) == before


def test_a_new_talk_and_another_tab_and_another_model_have_none_of_it(watched, scripted):
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    states(page, "ended")
    assert not opened(watched, scripted.url).locator("article.turn").count()
    scripted.model = "another"
    reloaded(page)
    expect(page.locator("#empty")).to_be_visible()
    send(page, "And you?")
    states(page, "ended")
    button(page, "New talk").click()
    reloaded(page)
    assert not page.locator("article.turn").count()


def test_a_message_that_is_asked_again_and_refused_keeps_its_answers(watched, scripted):
    watched.expect_refusals()
    page = opened(watched, scripted.url)
    for message in ("How are you?", "And now?"):
        send(page, message)
        states(page, "ended")
    scripted.refuse("/v1/emotions/compare", 429, "too many wait")
    button(page, "Again").click()
    expect(page.locator("#send-error")).to_contain_text("Too many wait")
    expect(page.get_by_role("radio")).to_have_count(2)  # of the last turn alone
    reloaded(page)
    states(page, "ended")
    assert page.locator("article.turn").count() == 2


@pytest.mark.parametrize(
    "kept",
    [
        "{",
        "null",
        "5",
        "[]",
        "[null]",
        '[{"said": "x", "model": "scripted", "chosen": 0}]',
    ],
)
def test_what_is_kept_and_is_no_talk_is_left_out(contexts, scripted, kept):
    watched = contexts(scripted.url)
    script = f"try {{ sessionStorage.setItem({KEPT!r}, {json.dumps(kept)}); }} catch {{}}"
    watched.context.add_init_script(script)
    page = opened(watched, scripted.url)
    expect(page.locator("#empty")).to_be_visible()
    assert scripted.asked.count(("GET", EMOTIONS)) == 1  # it began at once
    send(page, "How are you?")
    states(page, "ended")
    assert scripted.compare().body["messages"] == [{"role": "user", "content": "How are you?"}]


def test_a_text_that_is_gone_on_with_is_there_again(watched, scripted):
    scripted.abilities |= {"chat": False, "sides": None}
    page = opened(watched, scripted.url)
    send(page, "This morning I")
    states(page, "ended")
    is_read(page)
    before = shown(page)
    reloaded(page)
    is_read(page)
    assert shown(page) == before


def test_of_a_talk_that_has_no_room_the_last_turns_are_there(contexts, scripted):
    watched = contexts(scripted.url)
    watched.context.add_init_script(ROOM)
    page = opened(watched, scripted.url)
    for message in ("One?", "Two?", "Three?", "Four?", "Five?"):
        send(page, message)
        states(page, "ended")
        expect(page.locator("article.turn .said").last).to_have_text(message)
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    reloaded(page)
    there = page.locator("article.turn .said").all_text_contents()
    assert 0 < len(there) < 5
    assert there == ["One?", "Two?", "Three?", "Four?", "Five?"][-len(there) :]


def test_what_ends_while_nobody_looks_outlives_a_page_that_is_not_told_of_its_end(
    contexts, scripted
):
    watched = contexts(scripted.url)
    watched.context.add_init_script(UNSEEN)
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    states(page, "ended")
    before = shown(page)[0]
    reloaded(page)
    assert shown(page)[0] == before
    button(page, "New talk").click()
    reloaded(page)
    expect(page.locator("#empty")).to_be_visible()


def test_a_talk_with_the_model_before_is_none_of_the_one_that_came_meanwhile(watched, scripted):
    watched.expect_refusals()
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    states(page, "ended")
    with scripted.gone():
        send(page, "And now?")
        expect(page.locator("#banner")).to_contain_text("does not answer")
        scripted.model = "another"
    expect(page.locator("#model")).to_have_text("another", timeout=20_000)
    expect(page.locator("article.turn")).to_have_count(1)
    reloaded(page)
    expect(page.locator("#empty")).to_be_visible()
