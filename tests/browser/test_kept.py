"""What a tab keeps: of this release, of another one, and where a browser keeps nothing."""

import json

import pytest
from browser.hands import mood, opened, place, send, states
from browser.scripted import EMOTIONS
from playwright.sync_api import expect

KEPT = "emokernel-settings"
DENIED = """
for (const name of ["getItem", "setItem"]) {
  Storage.prototype[name] = () => { throw new DOMException("denied", "SecurityError"); };
}
"""


def opened_with(contexts, scripted, script):
    watched = contexts(scripted.url)
    watched.context.add_init_script(script)
    return opened(watched, scripted.url)


@pytest.mark.parametrize(
    "kept",
    [
        "{",
        "null",
        "5",
        '{"view": "compare", "strength": "1", "mix": null}',
        '["scripted", 5]',
        '["scripted", "#strength=high&mood=left,up&mix=rage:2&view=compare&seed=-1&none=1"]',
    ],
)
def test_what_another_release_kept_or_is_broken_is_left_out(contexts, scripted, kept):
    script = f"try {{ sessionStorage.setItem({KEPT!r}, {json.dumps(kept)}); }} catch {{}}"
    page = opened_with(contexts, scripted, script)
    assert mood(page) == (0.7, 0.5)
    assert scripted.asked.count(("GET", EMOTIONS)) == 1  # it began at once
    send(page, "How are you?")
    states(page, "ended")


def test_a_browser_that_keeps_nothing_has_the_page_all_the_same(contexts, scripted):
    page = opened_with(contexts, scripted, DENIED)
    place(page, -0.5, 0.5)
    send(page, "How are you?")
    states(page, "ended")


def test_another_model_has_not_the_mix_and_the_strength_of_the_one_before(watched, scripted):
    page = opened(watched, scripted.url, "#mix=joy:0.5,fear:0.3&strength=1.6&seed=8")
    expect(page.locator("#strength-said")).to_have_text("1.60")
    scripted.names, scripted.model, scripted.calibration = ("joy", "anger"), "another", None
    page.reload()
    expect(page.locator("#model")).to_have_text("another")
    expect(page.locator("#strength-said")).to_have_text("0.20")
    send(page, "How are you?")
    body = scripted.compare().body
    [steered] = [each for each in body["emotions"] if each]
    assert (steered["emotion"], body["seed"]) == ({"joy": 0.5}, 8)
