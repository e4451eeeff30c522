"""What is written stays in sight, and the page alive; moves go where they count."""

import pytest
from browser.hands import (
    PLAIN,
    STEERED,
    answer,
    button,
    copied,
    drag,
    has,
    message,
    opened,
    send,
    states,
    view,
)
from browser.waiting import waited
from playwright.sync_api import expect

LONGEST_FRAME = """
() => {
  window.longest = 0;
  let before = performance.now();
  const look = () => {
    const now = performance.now();
    window.longest = Math.max(window.longest, now - before);
    before = now;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}
"""


@pytest.mark.parametrize(("width", "height"), [(390, 844), (820, 900)])
def test_where_answers_are_stacked_the_steered_one_stays_in_sight(
    contexts, scripted, width, height
):
    scripted.held, scripted.length = True, 300
    watched = contexts(scripted.url, viewport={"width": width, "height": height})
    page = opened(watched, scripted.url, "#length=300")
    send(page, "How are you?")
    compare = scripted.compare()
    for _ in range(30):
        compare.let(9)
        page.wait_for_timeout(60)
    has(page, STEERED, "writing")
    text = answer(page, STEERED).locator(".text").bounding_box()
    end = text["y"] + text["height"]
    covered = page.locator("#stage").bounding_box() if width < 760 else {"y": 0, "height": 0}
    assert covered["y"] + covered["height"] < end
    assert end <= page.locator("#composer").bounding_box()["y"] + 8
    # Who looks further up is left there.
    page.mouse.move(width / 2, height / 2)
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(300)
    there = page.evaluate("scrollY")
    compare.let(20)
    page.wait_for_timeout(400)
    assert page.evaluate("scrollY") == there
    compare.open()
    states(page, "ended")


def test_very_long_answers_leave_the_page_alive(watched, scripted):
    scripted.length = 1500
    page = opened(watched, scripted.url, "#length=1500")
    page.evaluate(LONGEST_FRAME)
    send(page, "How are you?")
    states(page, "ended", within=60)
    assert page.evaluate("window.longest") < 4000  # 13,500 when each token measured the page


def test_to_look_at_the_mix_changes_nothing(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    compare = scripted.compare()
    compare.let(2)
    has(page, STEERED, "writing")
    page.get_by_role("tab", name="Mix", exact=True).click()
    page.get_by_role("tab", name="Point", exact=True).click()
    page.get_by_role("tab", name="Mix", exact=True).click()
    page.wait_for_timeout(300)
    assert not compare.changes
    page.get_by_role("slider", name="fear").fill("0.5")
    [change] = waited(lambda: compare.changes[-1:], "the change")
    assert {"fear": 0.5} in [each and each["emotion"] for each in change["emotions"]]
    compare.open()
    states(page, "ended")


def test_a_move_reaches_what_it_is_about_alone(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    view(page, "Twelve moods")
    page.get_by_role("textbox", name="Message").fill("How are you?")
    button(page, "Send").click()
    twelve = scripted.compare()
    twelve.let(2)
    box = page.locator("#disc .ground").bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + box["height"] / 2)  # there is no point to be moved
    view(page, "Talk")
    assert page.get_by_role("spinbutton", name="Valence").input_value() == "0.7"
    send(page, "And you?")
    talk = scripted.compare(1)
    talk.let(2)
    has(page, STEERED, "writing")
    drag(page, -0.5, -0.5)
    waited(lambda: talk.changes and talk.changes[-1]["again"], "the change")
    assert not twelve.changes
    talk.open()
    twelve.open()
    states(page, "ended")


def test_a_link_after_sending_has_what_was_asked(contexts, scripted):
    watched = contexts(scripted.url, permissions=["clipboard-read", "clipboard-write"])
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    states(page, "ended")
    assert "message=How+are+you%3F" in copied(page)
    button(page, "Copied").click()  # a second time
    expect(button(page, "Copy link")).to_be_visible(timeout=6000)


def test_cost_is_not_measured_beside_a_text_that_is_written(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    scripted.compare().let(1)
    has(page, PLAIN, "writing")
    view(page, "Cost")
    button(page, "Measure").click()
    expect(page.locator("#send-error")).to_contain_text("A text is being written")
    assert len(scripted.compares) == 1
    view(page, "Talk")
    expect(page.locator("#send-error")).to_be_hidden()
    scripted.compare().open()
    states(page, "ended")


@pytest.mark.parametrize("other", ["Talk", "Twelve moods"])
def test_nothing_is_written_beside_a_cost_that_is_measured(watched, scripted, other):
    page = opened(watched, scripted.url)
    view(page, "Cost")
    message(page).fill("How are you?")
    scripted.held = True
    button(page, "Measure").click()
    measured = scripted.compare()
    view(page, other)
    send(page, "And now?")
    expect(page.locator("#send-error")).to_contain_text("The cost is being measured")
    assert message(page).input_value() == "And now?"
    assert len(scripted.compares) == 1
    view(page, "Cost")
    button(page, "Stop").click()
    waited(lambda: measured.left, "the page has hung up")
    scripted.held = False
    view(page, other)
    button(page, "Send").click()
    waited(lambda: scripted.compare(1).ended, "the text")


def test_new_talk_in_mid_text_begins_anew(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    scripted.compare().let(1)
    has(page, STEERED, "writing")
    button(page, "New talk").click()
    expect(page.locator("article.turn")).to_have_count(0)
    waited(lambda: scripted.compare().left, "the page has hung up")
    scripted.held = False
    send(page, "Again?")
    states(page, "ended")
    assert len(scripted.compare(1).body["messages"]) == 1
