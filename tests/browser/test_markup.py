"""Whatever a text holds, it is shown as it is: no element, no request, no dialog comes of it."""

from urllib.parse import quote

from browser.hands import PLAIN, STEERED, button, message, opened, said, send, states, view
from playwright.sync_api import expect

BAD = (
    "<img src=/stolen onerror=alert(1)><script>alert(2)</script><b>bold</b></span></p>"
    '<iframe src="/stolen"></iframe><style>body{display:none}</style><a href="/stolen">go</a>'
    " &lt;&amp; **bold** [go](javascript:alert(3)) ${alert(4)} \u202eesrever\u202c"
)
_MADE = """
[...document.querySelectorAll("img, iframe, i.of, a, b, style, script, [onerror]")]
  .filter((each) => !each.matches("b") || each.textContent === "bold").length
"""


def made(page):
    return page.evaluate(_MADE)


def untouched(watched, page, before):
    assert made(page) == before
    assert not any("stolen" in each for each in watched.requested)
    assert page.locator("body").is_visible()


def test_what_the_model_and_the_person_say(watched, scripted):
    scripted.words, scripted.length = (lambda side, step, asked: BAD[7 * step : 7 * step + 7]), 60
    page = opened(watched, scripted.url)
    before = made(page)
    send(page, BAD)
    states(page, "ended")
    assert said(page, STEERED) == said(page, PLAIN) == BAD
    assert page.locator("article.turn .said").text_content() == BAD
    untouched(watched, page, before)
    view(page, "Twelve moods")
    message(page).fill(BAD)
    button(page, "Send").click()
    expect(page.locator(".state .text").first).to_have_text(BAD)
    untouched(watched, page, before)


def test_names_of_emotions(watched, scripted):
    scripted.names = ["joy", "<i class=of>anger</i>", "<img src=/stolen onerror=alert(1)>", "a:b,c"]
    page = opened(watched, scripted.url)
    before = made(page)
    page.get_by_role("tab", name="Mix", exact=True).click()
    for name in scripted.names:
        slider = page.get_by_role("slider", name=name, exact=True)
        slider.press("ArrowRight")
    send(page, "How are you?")
    states(page, "ended")
    [steered] = [each for each in scripted.compare().body["emotions"] if each]
    assert set(steered["emotion"]) == set(scripted.names)
    untouched(watched, page, before)


def test_what_the_judge_reads(watched, scripted):
    scripted.label = lambda text: "<img src=/stolen onerror=alert(1)>"
    page = opened(watched, scripted.url)
    before = made(page)
    send(page, "How are you?")
    states(page, "ended")
    page.wait_for_timeout(300)
    assert scripted.read
    untouched(watched, page, before)


def test_errors_and_links(watched, scripted):
    watched.expect_refusals()
    fragment = "#" + "&".join(
        f"{name}={quote(BAD)}" for name in ("message", "system", "mood", "mix", "law", "view", BAD)
    ).replace(f"&{BAD}", f"&{quote(BAD)}")
    page = opened(watched, scripted.url, fragment)
    before = made(page)
    assert message(page).input_value() == BAD
    assert before == made(opened(watched, scripted.url))
    scripted.refuse("/v1/emotions/compare", 400, BAD)
    button(page, "Send").click()
    expect(page.locator("body")).to_contain_text("**bold** [go](javascript:alert(3))")
    page.wait_for_timeout(200)
    untouched(watched, page, before)
