"""At all widths and in both schemes: everything fits, can be read, has a name, and keeps still."""

import math

import pytest
from browser.hands import button, message, opened, place, send, settings, states, view
from browser.seen import contrasts, contrasts_on_disc, cut_off, nameless, sticking_out
from browser.streamed import Compare
from playwright.sync_api import expect

WIDTHS, SCHEMES = (360, 768, 1280), ("light", "dark")
LONG = "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 4
# The least that a text of this size needs, by WCAG 2.2 AA: 18 pt are large.
LARGE, LEAST, LEAST_LARGE = 24.0, 4.5, 3.0


def long_words(side, step, asked):
    return f"{LONG} " if step == 2 else f"word{step}" + (". " if step % 4 == 3 else " ")


@pytest.fixture
def shown(contexts, scripted):
    """``shown(width, scheme)``: the page with a talk in it, of which a part was long words."""

    def show(width, scheme="light", **options):
        scripted.words = long_words
        watched = contexts(
            scripted.url, viewport={"width": width, "height": 800}, color_scheme=scheme, **options
        )
        page = opened(watched, scripted.url)
        place(page, -0.6, 0.5)
        send(page, f"What is {LONG}?")
        states(page, "ended")
        page.locator(".mark").first.wait_for(state="attached")
        page.wait_for_timeout(300)
        return page

    return show


def each_view(page):
    """The page in all that it can show; gives the name of what is shown."""
    yield "talk"
    settings(page)
    yield "settings"
    page.get_by_role("tab", name="Mix", exact=True).click()
    yield "mix"
    view(page, "Twelve moods")
    message(page).fill("How are you?")
    button(page, "Send").click()
    expect(page.locator(".mark")).to_have_count(12)
    page.wait_for_timeout(300)
    yield "twelve"
    view(page, "Cost")
    yield "cost"


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_scrolls_sideways_or_is_cut_off(shown, width):
    page = shown(width)
    for name in each_view(page):
        assert sticking_out(page) == [], name
        assert cut_off(page) == [], name


@pytest.mark.parametrize("width", WIDTHS)
def test_the_empty_page_fits(contexts, scripted, width):
    watched = contexts(scripted.url, viewport={"width": width, "height": 700})
    page = opened(watched, scripted.url)
    assert sticking_out(page) == cut_off(page) == []
    assert message(page).bounding_box()["y"] < 700  # one can begin without scrolling


@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts_can_be_read(shown, scheme):
    page = shown(1280, scheme)
    for name in each_view(page):
        found = contrasts(page)
        assert len(found) > 20
        low = [
            (round(contrast, 2), text)
            for contrast, text, size in found
            if contrast < (LEAST_LARGE if size >= LARGE else LEAST)
        ]
        assert low == [], name


@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts_of_every_mood_can_be_read(contexts, scripted, scheme):
    scripted.length = 3
    page = opened(contexts(scripted.url, color_scheme=scheme), scripted.url)
    for turn, degrees in enumerate(range(0, 360, 30)):
        place(page, *(round(f(math.radians(degrees)), 2) for f in (math.cos, math.sin)))
        send(page, "How are you?")
        expect(page.locator("article.turn")).to_have_count(turn + 1)
        states(page, "ended")
    page.wait_for_timeout(400)
    found = contrasts(page)
    assert sum("lad" in text or "cross" in text for _, text, _ in found) >= 3
    low = [(round(contrast, 2), text) for contrast, text, _ in found if contrast < LEAST]
    assert low == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_words_on_the_disc_can_be_read(contexts, scripted, scheme):
    watched = contexts(scripted.url, color_scheme=scheme)
    for width in WIDTHS:
        page = opened(watched, scripted.url, "#mood=0,0")
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(200)
        found = contrasts_on_disc(page)
        assert len(found) == 4
        assert [each for each in found if each[0] < LEAST] == [], width


def test_vectors_without_a_calibration_are_told_of(contexts, scripted):
    page = opened(contexts(scripted.url), scripted.url)
    assert "calibration" not in page.inner_text("#panel")
    scripted.calibration = None
    page = opened(contexts(scripted.url), scripted.url)
    assert "no calibration" in page.inner_text("#panel")


def test_light_and_dark_are_two(shown):
    grounds = {
        shown(800, scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in SCHEMES
    }
    assert len(grounds) == 2


def test_every_control_has_a_name(shown):
    page = shown(1280)
    for name in each_view(page):
        assert nameless(page) == [], name
    assert page.locator("html").get_attribute("lang") == "en"
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((e) => e.tagName)")
    assert levels.count("H1") == 1


def test_ids_are_unique(shown):
    page = shown(1280)
    for name in each_view(page):
        twice = page.evaluate(
            "() => { const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);"
            " return ids.filter((id, index) => ids.indexOf(id) !== index); }"
        )
        assert twice == [], name


def test_who_wants_no_motion_gets_none(contexts, scripted):
    watched = contexts(scripted.url, reduced_motion="reduce")
    page = opened(watched, scripted.url)
    page.evaluate(
        "() => { window.moved = [];"
        " for (const kind of ['animationstart', 'transitionrun'])"
        "   document.addEventListener(kind, (event) => moved.push(`${kind} ${event.target.id}`)); }"
    )
    scripted.held = True
    place(page, -0.5, 0.5)
    send(page, "How are you?")
    compare: Compare = scripted.compare()
    compare.let(3)
    page.wait_for_timeout(200)
    running = page.evaluate(
        "document.getAnimations().filter((each) => each.effect.getComputedTiming().duration > 1)"
        ".map((each) => each.animationName ?? each.transitionProperty)"
    )
    assert running == []
    compare.open()
    states(page, "ended")
    place(page, 0.5, -0.5)
    page.wait_for_timeout(200)
    lasting = page.evaluate(
        "document.getAnimations().map((each) => each.effect.getComputedTiming().duration)"
    )
    assert all(duration <= 1 for duration in lasting)


def test_large_letters_do_not_break_it(contexts, scripted):
    watched = contexts(scripted.url, viewport={"width": 800, "height": 800})
    watched.context.add_init_script(
        "addEventListener('DOMContentLoaded', () =>"
        " { document.documentElement.style.fontSize = '200%'; })"
    )
    page = opened(watched, scripted.url)
    assert sticking_out(page) == []
