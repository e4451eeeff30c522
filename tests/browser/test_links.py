"""A talk's settings as a link, and links with nonsense in them."""

from urllib.parse import urlsplit

import pytest
from browser.hands import (
    button,
    copied,
    drag,
    field,
    message,
    mood,
    opened,
    place,
    ready,
    send,
    settings,
    states,
    view,
)
from playwright.sync_api import expect

CHOSEN = {"Seed": "77", "Temperature": "0.3", "Top p": "0.5", "Longest answer": "33"}
SYSTEM, DRAFT = "You are a & b = c #1\nand ü.", 'What + % & "that"?\nTwo lines 🙂'


@pytest.fixture
def watched(contexts, scripted):
    return contexts(scripted.url, permissions=["clipboard-read", "clipboard-write"])


def chosen(page):
    """All that a link has to carry."""
    settings(page)
    return {
        **{name: field(page, name).input_value() for name in CHOSEN},
        "mood": mood(page),
        "strength": page.get_by_role("slider", name="Strength").input_value(),
        "law": page.get_by_role("combobox", name="Law").input_value(),
        "positions": page.get_by_role("combobox", name="Positions").input_value(),
        "system": page.get_by_role("textbox", name="System prompt").input_value(),
        "message": message(page).input_value(),
    }


def test_a_link_carries_all_settings_and_the_message_and_sends_nothing(watched, scripted):
    page = opened(watched, scripted.url)
    settings(page)
    for name, value in CHOSEN.items():
        field(page, name).fill(value)
        field(page, name).press("Tab")
    page.get_by_role("combobox", name="Law").select_option("add")
    page.get_by_role("combobox", name="Positions").select_option("generated")
    page.get_by_role("textbox", name="System prompt").fill(SYSTEM)
    page.get_by_role("slider", name="Strength").fill("1.4")
    drag(page, -0.5, 0.25)
    message(page).fill(DRAFT)
    before = chosen(page)
    assert before["message"] == DRAFT
    assert before["strength"] == "1.4"
    link = copied(page)
    parts = urlsplit(link)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{scripted.url}/"
    assert not parts.query
    asked = len(scripted.asked)

    other = opened(watched, scripted.url, f"#{parts.fragment}")
    assert chosen(other) == before
    other.wait_for_timeout(300)
    assert {path for method, path in scripted.asked[asked:] if method == "POST"} == set()
    button(other, "Send").click()
    states(other, "ended")
    [steered] = [each for each in scripted.compare().body["emotions"] if each]
    body = scripted.compare().body
    assert (body["seed"], body["temperature"], body["top_p"]) == (77, 0.3, 0.5)
    assert (body["max_tokens"], body["system"]) == (33, SYSTEM)
    assert body["messages"] == [{"role": "user", "content": DRAFT}]
    assert (steered["law"], steered["positions"], steered["strength"]) == ("add", "generated", 1.4)


def test_a_link_carries_a_mix(watched, scripted):
    scripted.names = ["joy", "anger", "odd name: a,b & c"]
    page = opened(watched, scripted.url)
    page.get_by_role("tab", name="Mix", exact=True).click()
    for name, value in (("joy", "0.6"), ("odd name: a,b & c", "0.25")):
        page.get_by_role("slider", name=name, exact=True).fill(value)
    link = copied(page)
    other = opened(watched, scripted.url, "#" + urlsplit(link).fragment)
    assert page.get_by_role("slider", name="joy", exact=True).is_visible()
    send(other, "How are you?")
    states(other, "ended")
    [steered] = [each for each in scripted.compare().body["emotions"] if each]
    assert steered["emotion"] == {"joy": 0.6, "odd name: a,b & c": 0.25}


def test_a_link_that_is_opened_in_a_tab_that_has_the_page(watched, scripted):
    page = opened(watched, scripted.url)
    page.evaluate("location.hash = '#mood=-0.5,0.25&message=Hello'")
    expect(message(page)).to_have_value("Hello")
    assert mood(page) == (-0.5, 0.25)


NONSENSE = (
    "mood=left,right", "mood=NaN,1", "mood=1", "mood=1e999,0", "strength=many", "strength=99",
    "law=evil", "positions=nowhere", "seed=-1", "seed=1.5", "seed=1e99", "temperature=hot",
    "top_p=0", "length=-3", "mix=rage:1", "mix=joy:x", "mix=joy:7", "mix=:::", "view=nowhere",
    "whatever=1", "__proto__=1", "constructor=1", "%E0%A4%A=%", "mood=%FF",
)  # fmt: skip


def test_nonsense_is_told_and_breaks_nothing(watched, scripted):
    page = opened(watched, scripted.url, "#message=Hello")
    usual, error, before = chosen(page), page.locator("#send-error"), ""
    for nonsense in sorted(NONSENSE, key=lambda each: each.startswith("mix")):
        page.evaluate("(fragment) => { location.hash = fragment; }", nonsense)
        expect(error).not_to_have_text(before)
        before = error.inner_text()
        assert len(before.split()) > 3, nonsense
        if not nonsense.startswith("mix"):
            assert chosen(page) == usual, nonsense
    page = opened(watched, scripted.url, f"#{'&'.join(NONSENSE)}&message=Hello")
    button(page, "Send").click()
    states(page, "ended")


def test_of_a_link_that_is_half_nonsense_the_other_half_counts(watched, scripted):
    page = opened(watched, scripted.url, "#strength=many&mood=0.1,0.2&law=add&seed=5&seed=x")
    assert mood(page) == (0.1, 0.2)
    now = chosen(page)
    assert (now["law"], now["Seed"], now["strength"]) == ("add", "5", "1")


def test_a_length_that_this_server_does_not_write_is_its_longest(watched, scripted):
    scripted.abilities["max_tokens"] = 50
    page = opened(watched, scripted.url, "#length=400&message=Hello")
    expect(page.locator("#send-error")).to_contain_text("50 tokens at most")
    button(page, "Send").click()
    states(page, "ended")
    assert scripted.compare().body["max_tokens"] == 50


def test_a_mood_outside_the_disc_is_on_its_rim(watched, scripted):
    page = opened(watched, scripted.url, "#mood=3,4")
    assert mood(page) == pytest.approx((0.6, 0.8), abs=0.011)
    place(page, 1, 1)
    valence, arousal = mood(page)
    assert valence**2 + arousal**2 <= 1


def test_the_view_is_part_of_a_link(watched, scripted):
    page = opened(watched, scripted.url)
    view(page, "Twelve moods")
    other = opened(watched, scripted.url, "#" + urlsplit(copied(page)).fragment)
    expect(other.get_by_role("tab", name="Twelve moods")).to_have_attribute("aria-selected", "true")


def test_a_reload_keeps_what_was_chosen_and_the_draft(watched, scripted):
    page = opened(watched, scripted.url)
    place(page, -0.4, 0.3)
    settings(page)
    field(page, "Seed").fill("99")
    field(page, "Seed").press("Tab")
    message(page).fill(DRAFT)
    before = chosen(page)
    page.reload()
    ready(page)
    assert chosen(page) == before
    assert chosen(opened(watched, scripted.url))["message"] == ""  # another tab is another one
