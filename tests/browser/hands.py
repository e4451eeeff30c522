"""What a person does on the page and sees of it, by the names that screen readers say too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from browser.waiting import waited
from browser.watched import Watched
from playwright.sync_api import expect

STEERED, PLAIN = "steered", "plain"
# Of each run of text in a colour of its own: the text, and what says the colour of its mood.
_RUNS = """
(element) => {
  const runs = [];
  let space = "";
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    // The space between two stretches stands before the name of the second.
    if (walker.currentNode.parentElement === element) {
      space += walker.currentNode.data;
      continue;
    }
    const style = getComputedStyle(walker.currentNode.parentElement);
    const colour = [style.color, style.backgroundColor, style.textDecorationColor,
      style.borderBottomColor, style.boxShadow].join(" ");
    const last = runs.at(-1);
    const text = space + walker.currentNode.data;
    space = "";
    if (last?.[1] === colour) last[0] += text;
    else if (text) runs.push([text, colour]);
  }
  return runs;
}
"""


def opened(watched: Watched, url: str, fragment: str = "") -> Any:
    """A new tab with the page, all of it drawn."""
    page = watched.context.new_page()
    page.goto(f"{url}/{fragment}")
    ready(page)
    return page


def ready(page: Any) -> None:
    """Wait until all is drawn."""
    page.locator("body[data-ready]").wait_for(state="attached")


def message(page: Any) -> Any:
    """Where one writes."""
    return page.get_by_role("textbox", name="Message")


def button(page: Any, name: str) -> Any:
    """The button of exactly that name."""
    return page.get_by_role("button", name=name, exact=True)


def point(page: Any) -> Any:
    """The point on the disc."""
    return page.get_by_role("slider", name="Mood", exact=True)


def field(page: Any, name: str) -> Any:
    """A field for a number."""
    return page.get_by_role("spinbutton", name=name, exact=True)


def view(page: Any, name: str) -> None:
    """Go to another view."""
    page.get_by_role("tab", name=name, exact=True).click()


def settings(page: Any) -> None:
    """Unfold the settings."""
    if not field(page, "Seed").is_visible():
        page.locator("#settings > summary").click()


def mood(page: Any) -> tuple[float, float]:
    """Valence and arousal, as the fields beside the disc say them."""
    valence, arousal = (field(page, name).input_value() for name in ("Valence", "Arousal"))
    return float(valence), float(arousal)


def place(page: Any, valence: float, arousal: float) -> None:
    """Say the mood by its two numbers."""
    for name, value in (("Valence", valence), ("Arousal", arousal)):
        field(page, name).fill(str(value))
        field(page, name).press("Enter")


def on_screen(page: Any, valence: float, arousal: float) -> tuple[float, float]:
    box = page.locator("#disc .rim").bounding_box()
    radius = box["width"] / 2
    return box["x"] + radius * (1 + valence), box["y"] + radius * (1 - arousal)


def drag(
    page: Any, valence: float, arousal: float, *, steps: int = 8, meanwhile: Callable[[], Any] = int
) -> None:
    """Lead the point there by the mouse; ``meanwhile`` is called before it is let go."""
    point(page).scroll_into_view_if_needed()
    box = point(page).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(*on_screen(page, valence, arousal), steps=steps)
    meanwhile()
    page.mouse.up()


def send(page: Any, text: str) -> None:
    """Write a message and send it."""
    message(page).fill(text)
    button(page, "Send").click()


def turn(page: Any, number: int = -1) -> Any:
    """A turn of the talk: the last one, unless told."""
    return page.locator("article.turn").nth(number)


def answer(page: Any, side: str, number: int = -1) -> Any:
    """One of the two answers of a turn."""
    return turn(page, number).locator(f'.answer[data-side="{side}"]')


def said(page: Any, side: str, number: int = -1) -> str:
    """The text of an answer so far."""
    return answer(page, side, number).locator(".text").text_content()


def says(page: Any, side: str, text: str, number: int = -1) -> None:
    """Wait until an answer is exactly that, to the last space."""
    waited(lambda: said(page, side, number) == text, f"{side}: {text!r}")


def states(page: Any, state: str, number: int = -1, within: float = 15) -> None:
    """Wait until both answers of a turn are in that state."""
    for side in (STEERED, PLAIN):
        has(page, side, state, number, within)


def has(page: Any, side: str, state: str, number: int = -1, within: float = 15) -> None:
    """Wait until one answer is in that state."""
    expect(answer(page, side, number)).to_have_attribute("data-state", state, timeout=1000 * within)


def runs(page: Any, side: str, number: int = -1) -> list[tuple[str, str]]:
    """The runs of an answer that have a colour of their own: (text, colour)."""
    found = answer(page, side, number).locator(".text").evaluate(_RUNS)
    return [(text, colour) for text, colour in found]


def copied(page: Any) -> str:
    """The link of the page as it is now, from the clipboard."""
    button(page, "Copy link").click()
    expect(button(page, "Copied")).to_be_visible()
    return page.evaluate("navigator.clipboard.readText()")
