"""One message, twelve states around the circle, in one batch."""

import math

from browser.hands import button, message, opened, view
from browser.scripted import mood_of
from browser.waiting import waited
from playwright.sync_api import expect

from emokernel.affect import TWELVE_STATES


def sent(page):
    view(page, "Twelve moods")
    message(page).fill("How are you?")
    button(page, "Send").click()


def test_twelve_texts_in_one_batch(watched, scripted):
    page = opened(watched, scripted.url)
    sent(page)
    expect(page.locator(".state[data-angle]")).to_have_count(12)
    compare = scripted.compare()
    places = [(each["emotion"]["valence"], each["emotion"]["arousal"])
              for each in compare.body["emotions"]]  # fmt: skip
    for state in TWELVE_STATES:
        assert min(math.dist(each, (state.valence, state.arousal)) for each in places) < 0.02
    waited(lambda: compare.ended, "the end")
    by_angle = {}
    for state in page.locator(".state[data-angle]").all():
        by_angle[round(float(state.get_attribute("data-angle"))) % 360] = state
    for (valence, arousal), text in zip(places, compare.texts, strict=True):
        degrees = round(math.degrees(math.atan2(arousal, valence)) / 30) * 30 % 360
        expect(by_angle[degrees].locator(".text")).to_have_text(text.strip())
        mood = mood_of({"valence": valence, "arousal": arousal})
        assert text.startswith(mood.capitalize())
    assert len(scripted.compares) == 1


def test_twelve_marks(watched, scripted):
    page = opened(watched, scripted.url)
    sent(page)
    expect(page.locator(".mark")).to_have_count(12)
    read = [text.strip() for texts in scripted.read for text in texts]
    assert sorted(read) == sorted(text.strip() for text in scripted.compare().texts)


def test_it_can_be_stopped(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    sent(page)
    compare = scripted.compare()
    compare.let(2)
    waited(lambda: all(page.locator(".state .text").all_text_contents()), "twelve beginnings")
    button(page, "Stop").click()
    waited(lambda: compare.left, "the page has hung up")
    assert sorted(page.locator(".state .text").all_text_contents()) == sorted(compare.texts)
    expect(page.locator("#aloud")).to_contain_text("The twelve answers are not whole.")
    expect(button(page, "Send")).to_be_visible()
