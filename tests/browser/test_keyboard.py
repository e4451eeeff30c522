"""Without a mouse: everything is reached, moved, sent and stopped by keys, and seen to be."""

import pytest
from browser.hands import STEERED, field, has, mood, opened, point, settings, states
from browser.waiting import waited
from playwright.sync_api import expect

# How each element looks, so that it can be said what the focus changes. `look` is kept in the page.
_LOOK = """
() => {
  const looks = ["outline", "boxShadow", "borderColor", "stroke", "strokeWidth", "backgroundColor"];
  window.look = (element) => {
    const style = getComputedStyle(element);
    return looks.map((name) => style[name]).join();
  };
  window.before = new Map([...document.querySelectorAll("*")].map((each) => [each, look(each)]));
}
"""
# [The name of what has the focus, whether it or what it lies in looks another way than before].
_FOCUSED = """
() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const name = element.getAttribute("aria-label") || element.labels?.[0]?.textContent
    || element.textContent;
  const near = [element, element.parentElement, element.parentElement.parentElement];
  const seen = window.before && near.some((each) => look(each) !== before.get(each));
  return [name.trim().replace(/\\s+/g, " "), seen];
}
"""


def tabbed(page, most=60):
    """What the Tab key leads to, in order: (name, whether it is seen to have the focus)."""
    found = []
    for _ in range(most):
        page.keyboard.press("Tab")
        now = page.evaluate(_FOCUSED)
        if now is None:  # the window itself, between the last and the first
            continue
        if found and now[0] == found[0][0]:
            break
        found.append(tuple(now))
    return found


def test_arrows_move_the_point(watched, scripted):
    page = opened(watched, scripted.url)
    handle = point(page)
    handle.press("Home")
    assert mood(page) == (0, 0)
    for key, expected in (
        ("ArrowRight", (0.05, 0)),
        ("ArrowUp", (0.05, 0.05)),
        ("Shift+ArrowRight", (0.25, 0.05)),
        ("Shift+ArrowDown", (0.25, -0.15)),
        ("ArrowLeft", (0.2, -0.15)),
    ):
        handle.press(key)
        assert mood(page) == pytest.approx(expected, abs=0.006), key
    for _ in range(8):
        handle.press("Shift+ArrowLeft")
    valence, arousal = mood(page)
    assert valence**2 + arousal**2 <= 1
    assert valence < -0.9
    assert "valence" in handle.get_attribute("aria-valuetext")


def test_a_talk_by_keys_alone(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    names = []
    while not names or names[-1] != "Mood":
        page.keyboard.press("Tab")
        names.append(page.evaluate(_FOCUSED)[0])
        assert len(names) < 20, names
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowLeft")
    while names[-1] != "Message":
        page.keyboard.press("Tab")
        names.append(page.evaluate(_FOCUSED)[0])
        assert len(names) < 60, names
    page.keyboard.type("How are you?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("And you?")
    page.keyboard.press("Enter")
    compare = scripted.compare()
    assert compare.body["messages"][0]["content"] == "How are you?\nAnd you?"
    [steered] = [each for each in compare.body["emotions"] if each]
    assert steered["emotion"] == {"valence": -0.2, "arousal": 0}
    compare.let(2)
    has(page, STEERED, "writing")
    page.keyboard.press("Escape")
    states(page, "stopped")
    waited(lambda: compare.left, "the page has hung up")


def test_whatever_has_the_focus_is_seen_to_have_it(contexts, scripted):
    watched = contexts(scripted.url, reduced_motion="reduce")  # what is to be seen is so at once
    page = opened(watched, scripted.url)
    settings(page)
    page.evaluate("document.activeElement.blur()")
    page.evaluate(_LOOK)
    found = tabbed(page)
    assert {"Mood", "Message", "Strength"} <= {name for name, _ in found}
    assert [name for name, seen in found if not seen] == []


def test_fields_take_numbers_and_nothing_else(watched, scripted):
    page = opened(watched, scripted.url)
    field(page, "Valence").fill("0.3")
    field(page, "Arousal").fill("-0.2")
    field(page, "Arousal").press("Tab")
    assert point(page).get_attribute("aria-valuetext").endswith("arousal −0.20")
    field(page, "Valence").fill("")
    field(page, "Valence").press("Tab")
    assert mood(page)[1] == -0.2  # and it is a number again


def test_tabs_are_chosen_by_arrows(watched, scripted):
    page = opened(watched, scripted.url)
    for names in (("Point", "Mix"), ("Talk", "Twelve moods", "Cost")):
        tabs = [page.get_by_role("tab", name=name, exact=True) for name in names]
        tabs[0].focus()
        for tab in (*tabs[1:], tabs[0]):  # and round
            page.keyboard.press("ArrowRight")
            expect(tab).to_be_focused()
            expect(tab).to_have_attribute("aria-selected", "true")
            panel = page.locator(f"#{tab.get_attribute('aria-controls')}")
            expect(panel).to_be_visible()
            assert [each.get_attribute("tabindex") for each in tabs].count("0") == 1
        page.keyboard.press("ArrowLeft")
        expect(tabs[-1]).to_be_focused()
