"""The page over the real server of the model that is part of the package."""

import itertools
import json
import re
import time
from urllib.parse import urlsplit

import httpx
import pytest
from browser.hands import (
    PLAIN,
    STEERED,
    answer,
    button,
    drag,
    field,
    has,
    message,
    mood,
    opened,
    place,
    runs,
    said,
    send,
    settings,
    states,
    turn,
    view,
)
from browser.waiting import waited
from playwright.sync_api import expect

QUESTION = "They told us that"


@pytest.fixture
def watched(contexts, embedded):
    watched = contexts(embedded.url, permissions=["clipboard-read", "clipboard-write"])
    watched.context.add_init_script(_HEAR)
    return watched


@pytest.fixture
def page(watched, embedded):
    page = opened(watched, embedded.url)
    settings(page)
    choose(page, **{"Longest answer": 60, "Seed": 3})
    return page


def choose(page, **values):
    for name, value in values.items():
        field(page, name).fill(str(value))
        field(page, name).press("Tab")


# Keeps what the server streams to the page, beside it.
_HEAR = """
const fetched = window.fetch;
window.heard = [];
window.fetch = async (...asked) => {
  const answer = await fetched(...asked);
  const heard = { path: new URL(answer.url).pathname, status: answer.status, text: "" };
  window.heard.push(heard);
  const copy = answer.clone().body?.pipeThrough(new TextDecoderStream());
  (async () => { for await (const part of copy ?? []) heard.text += part; })().catch(() => {});
  return answer;
};
"""


class Heard:
    """What the server told the page of ``watched``, as it came."""

    def __init__(self, page):
        self._page = page

    def answers(self, path):
        """The answers to requests whose path begins so."""
        heard = self._page.evaluate("window.heard")
        return [each for each in heard if each["path"].startswith(path)]

    def texts(self, number=-1):
        """(The texts of a compare, for each change how long they were then)."""
        texts, changed = {}, []
        for line in self.answers("/v1/emotions/compare")[number]["text"].splitlines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if event["type"] == "text":
                texts[event["side"]] = texts.get(event["side"], "") + event["text"]
            elif event["type"] == "changed":
                changed.append(dict(texts))
        return [texts[side] for side in sorted(texts)], changed


@pytest.fixture
def heard(page):
    return Heard(page)


def test_both_answers_stream_side_by_side_and_end(page, heard):
    place(page, 0.8, 0.4)
    lengths = set()
    send(page, QUESTION)
    has(page, STEERED, "writing")
    while answer(page, STEERED).get_attribute("data-state") == "writing":
        lengths.add((len(said(page, STEERED)), len(said(page, PLAIN))))
    states(page, "ended")
    assert len(lengths) > 2  # they came piece by piece
    texts, _ = heard.texts()
    assert texts == [said(page, STEERED), said(page, PLAIN)]
    assert texts[0] != texts[1]
    boxes = [answer(page, side).bounding_box() for side in (STEERED, PLAIN)]
    assert abs(boxes[0]["y"] - boxes[1]["y"]) < 2
    assert boxes[0]["x"] != boxes[1]["x"]
    expect(page.locator('.mark[data-side="steered"]').first).to_be_attached(timeout=30_000)
    expect(page.locator('.mark[data-side="plain"]').first).to_be_attached()


def test_a_point_that_is_dragged_steers_what_comes_after(page, heard):
    choose(page, **{"Longest answer": 220})
    place(page, 0.9, 0.1)
    send(page, QUESTION)
    has(page, STEERED, "writing")
    waited(lambda: len(said(page, STEERED)) > 30, "some words")
    drag(page, -0.8, -0.4)
    expected = mood(page)
    states(page, "ended", within=60)
    assert heard.answers("/v1/emotions/streams/")
    assert all(each["status"] == 200 for each in heard.answers("/v1/emotions/streams/"))
    texts, changed = heard.texts()
    assert changed
    assert texts == [said(page, STEERED), said(page, PLAIN)]
    page.wait_for_timeout(400)
    stretches = runs(page, STEERED)
    assert stretches[0][1] != stretches[-1][1]
    assert "".join(text for text, _ in stretches) == texts[0]
    # The colour is another one where the server changed its mood, and nowhere else.
    assert stretches[0][0] == changed[0][0]
    ends = itertools.accumulate(len(text) for text, _ in stretches[:-1])
    assert set(ends) <= {len(told[0]) for told in changed}
    assert len(runs(page, PLAIN)) == 1
    assert mood(page) == expected


def test_strength_0_gives_the_same_text_twice(page):
    page.get_by_role("slider", name="Strength").fill("0")
    send(page, QUESTION)
    states(page, "ended")
    assert said(page, STEERED) == said(page, PLAIN)
    assert len(said(page, PLAIN).split()) > 10


def test_several_turns(page, heard):
    choose(page, **{"Longest answer": 20})
    for number, text in enumerate((QUESTION, "Then she said", "At last")):
        send(page, text)
        expect(page.locator("article.turn")).to_have_count(number + 1)
        states(page, "ended")
    assert page.locator("article.turn .said").all_text_contents() == [
        QUESTION, "Then she said", "At last",
    ]  # fmt: skip
    for number in range(3):
        texts, _ = heard.texts(number)
        assert texts == [said(page, STEERED, number), said(page, PLAIN, number)]


def test_stop_frees_the_server(page, embedded):
    choose(page, **{"Longest answer": 230})
    send(page, QUESTION)
    has(page, STEERED, "writing")
    waited(lambda: embedded.metrics()["emokernel_requests_running"] > 0, "it runs")
    button(page, "Stop").click()
    states(page, "stopped")
    found = embedded.settled(within=10)
    assert found["emokernel_requests_running"] == found["emokernel_slots_in_use"] == 0
    text = said(page, STEERED)
    assert text
    page.wait_for_timeout(300)
    assert said(page, STEERED) == text


def test_copy_takes_the_answer_exactly(page):
    send(page, QUESTION)
    states(page, "ended")
    for side in (PLAIN, STEERED):
        answer(page, side).get_by_role("button", name="Copy").click()
        expect(answer(page, side).get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == said(page, side)


def test_a_link_gives_the_same_answers_in_another_tab(page, watched, embedded):
    place(page, -0.5, 0.5)
    send(page, QUESTION)
    states(page, "ended")
    message(page).fill(QUESTION)
    button(page, "Copy link").click()
    expect(button(page, "Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    other = opened(watched, embedded.url, "#" + urlsplit(link).fragment)
    assert message(other).input_value() == QUESTION
    assert not other.locator("article.turn").count()
    button(other, "Send").click()
    states(other, "ended")
    assert (said(other, STEERED), said(other, PLAIN)) == (said(page, STEERED), said(page, PLAIN))


def test_twelve_texts_and_twelve_marks(page, heard):
    choose(page, **{"Longest answer": 30})
    view(page, "Twelve moods")
    message(page).fill(QUESTION)
    button(page, "Send").click()
    expect(page.locator(".state[data-angle]")).to_have_count(12)
    expect(page.locator(".mark")).to_have_count(12, timeout=60_000)
    texts, _ = heard.texts()
    assert sorted(page.locator(".state .text").all_text_contents()) == sorted(texts)
    assert len(heard.answers("/v1/emotions/compare")) == 1
    assert len(set(texts)) > 6


def test_what_it_costs_is_a_ratio_with_its_spread(page):
    view(page, "Cost")
    message(page).fill(QUESTION)
    button(page, "Measure").first.click()
    ratio = page.locator(".ratio").first
    ratio.wait_for(timeout=60_000)
    expect(button(page, "Stop")).to_have_count(0, timeout=60_000)
    numbers = [float(each) for each in re.findall(r"\d+\.\d+", ratio.inner_text())]
    assert len(numbers) == 3
    middle, low, high = numbers
    assert 0.2 < low <= middle <= high < 5


def test_what_the_server_refuses_is_said_in_its_words(watched, page, embedded):
    watched.expect_refusals()
    choose(page, **{"Longest answer": 4000})
    long = "word " * 5000 + "end"
    answered = httpx.post(
        f"{embedded.url}/v1/emotions/compare",
        json={"messages": [{"role": "user", "content": long}], "emotions": [None]},
    )
    assert answered.status_code == 400
    send(page, long)
    sentence = answered.json()["error"]["message"]
    alert = page.get_by_role("alert").filter(has_text=sentence)  # whatever its first letter
    expect(alert).to_be_visible()
    assert message(page).input_value() == long
    message(page).fill(QUESTION)
    choose(page, **{"Longest answer": 10})
    button(page, "Send").click()
    states(page, "ended")
    expect(alert).to_be_hidden()


def test_the_first_word_comes_soon(page):
    send(page, QUESTION)
    states(page, "ended")
    began = time.monotonic()
    send(page, QUESTION)
    expect(page.locator("article.turn")).to_have_count(2)
    waited(lambda: said(page, STEERED), "the first word")
    assert time.monotonic() - began < 5
    assert turn(page, 0).locator(".text").count() == 2
