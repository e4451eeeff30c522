"""Marks on the disc: what the judge reads in each finished sentence, and where it cannot."""

import pytest
from browser.hands import (
    PLAIN,
    STEERED,
    button,
    has,
    opened,
    place,
    said,
    says,
    send,
    states,
    view,
)
from browser.scripted import READ, plain_words
from browser.waiting import waited
from playwright.sync_api import expect


def marks(page, side):
    return page.locator(f'.mark[data-side="{side}"]')


def test_each_finished_sentence_becomes_a_mark(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    place(page, 0.6, 0.4)
    send(page, "How are you?")
    compare = scripted.compare()
    compare.let(4)
    says(page, STEERED, "Glad0 glad1 glad2 glad3 ")
    page.wait_for_timeout(200)
    assert not scripted.read
    compare.let(3)
    for side in (STEERED, PLAIN):
        expect(marks(page, side)).to_have_count(1)
    compare.open()
    states(page, "ended")
    for side in (STEERED, PLAIN):
        expect(marks(page, side)).to_have_count(3)  # five words, five, and the two that are left
    read = {text.strip() for texts in scripted.read for text in texts}
    assert read == {
        "".join(plain_words(0, step, asked) for step in range(first, end)).strip()
        for asked in ({"valence": 0.6, "arousal": 0.4}, None)
        for first, end in ((0, 5), (5, 10), (10, 12))
    }


def test_a_mark_lies_where_the_judge_says(watched, scripted):
    scripted.length = 5
    scripted.label = lambda text: "sadness" if "plain" in text else "joy"
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    states(page, "ended")
    centre = page.locator("#disc .rim").bounding_box()
    middle = centre["x"] + centre["width"] / 2, centre["y"] + centre["height"] / 2
    for side, label in ((STEERED, "joy"), (PLAIN, "sadness")):
        expect(marks(page, side)).to_have_count(1)
        mark = marks(page, side).locator("circle, rect").first
        box = waited(mark.bounding_box, "the mark, which each reading draws anew")
        there = scripted.table.get(label)
        radius = centre["width"] / 2
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        assert (x - middle[0]) / radius == pytest.approx(there.valence, abs=0.03)
        assert (middle[1] - y) / radius == pytest.approx(there.arousal, abs=0.03)


def test_a_judge_that_fails_takes_nothing_from_the_answers(watched, scripted):
    watched.expect_refusals()
    page = opened(watched, scripted.url)
    scripted.refuse(READ, 503, "the judge's weights cannot be fetched", times=20)
    send(page, "How are you?")
    states(page, "ended")
    assert said(page, STEERED).startswith("Glad0 ")
    expect(page.locator("body")).to_contain_text("The judge's weights cannot be fetched.")
    assert not page.locator(".mark").count()


def test_a_slow_judge_is_told_of_and_keeps_nobody_waiting(watched, scripted):
    scripted.slow.add(READ)
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    states(page, "ended")
    expect(page.locator("#judge")).to_contain_text("read")
    send(page, "And now?")
    states(page, "ended")
    scripted.slow.clear()
    expect(marks(page, PLAIN).last).to_be_attached()


def test_without_a_judge_it_says_so_and_asks_none(watched, scripted):
    scripted.abilities["judge"] = None
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    states(page, "ended")
    page.wait_for_timeout(200)
    assert not scripted.read
    assert not page.locator(".mark").count()
    told = waited(lambda: "judge" in page.inner_text("body") and page.inner_text("body"), "it")
    assert "no judge" in told.lower()


def test_what_the_judge_cannot_place_is_no_mark(watched, scripted):
    scripted.label = lambda text: "somethingnew"
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    has(page, PLAIN, "ended")
    waited(lambda: scripted.read, "a reading")
    page.wait_for_timeout(200)
    assert not page.locator(".mark").count()


def test_the_judge_of_the_view_that_is_shown_is_the_one_asked_again(watched, scripted):
    watched.expect_refusals()
    page = opened(watched, scripted.url)
    scripted.refuse(READ, 503, "the judge's weights cannot be fetched", times=2)
    send(page, "How are you?")
    states(page, "ended")
    expect(button(page, "Ask it again")).to_be_visible()
    view(page, "Twelve moods")
    send(page, "How are you?")
    waited(lambda: scripted.compare(1).ended, "the twelve")
    expect(button(page, "Ask it again")).to_be_visible()
    view(page, "Talk")
    assert not scripted.read
    button(page, "Ask it again").click()
    for side in (STEERED, PLAIN):
        expect(marks(page, side)).to_have_count(3)


def test_the_line_of_what_was_asked_for_ends_where_the_steered_text_does(watched, scripted):
    page = opened(watched, scripted.url)
    ends = page.evaluate(
        """async () => {
          const { Line } = await import("/page/scripts/line.js");
          const line = new Line();
          const drawn = async () => {
            for (const _ of "12") await new Promise(requestAnimationFrame);
            return document.querySelector("#lanes .asked").points[2].x;
          };
          line.ask(0, { valence: 0.5, arousal: 0.5 });
          line.reach(20);
          line.end();
          line.reach(100);
          const first = await drawn();
          line.end();
          return [first, await drawn()];
        }"""
    )
    assert ends[0] == ends[1]
