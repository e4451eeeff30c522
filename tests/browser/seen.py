"""What can be seen of a page and can be told by numbers: names, contrast, what sticks out."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

# All visible controls and pictures without a name that a screen reader could say.
_NAMELESS = """
() => {
  const text = (element) => (element?.textContent ?? "").trim();
  const named = (element) => element.getAttribute("aria-label")?.trim()
    || (element.getAttribute("aria-labelledby") ?? "").split(/\\s+/)
      .some((id) => id && text(document.getElementById(id)))
    || [...(element.labels ?? [])].some(text)
    || (element.matches("button, a, summary, [role=tab], [role=button]") && text(element))
    || element.querySelector(":scope > title")?.textContent.trim();
  const kinds = "button, a[href], input, select, textarea, summary, progress, [tabindex]," +
    "[role=slider], [role=tab], [role=img], [role=tabpanel], img, dialog";
  return [...document.querySelectorAll(kinds)]
    .filter((element) => element.checkVisibility({ visibilityProperty: true }))
    .filter((element) => !element.closest("[aria-hidden=true]") && !named(element))
    .map((element) => element.outerHTML.slice(0, 160));
}
"""

# Of each visible text whose background is a plain colour: [contrast, text, sizes].
_CONTRASTS = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  canvas.canvas.width = canvas.canvas.height = 1;
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = "#000";
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = ([r, g, b, a], below) =>
    [r, g, b].map((value, index) => value * a + below[index] * (1 - a));
  const light = (colour) => {
    const [red, green, blue] = colour.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  // Null where there is a picture or a gradient, and for words that lie on the disc.
  const behind = (element) => {
    const layers = [];
    const shape = element.previousElementSibling;
    if (element instanceof SVGElement) {
      const isOn = shape?.matches("circle, rect") && shape.parentElement.matches(".mark");
      if (isOn) return over(rgba(getComputedStyle(shape).fill), [255, 255, 255]);
      if (element.closest("#disc")) return null;
    }
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.backgroundImage !== "none") return null;
      const colour = rgba(style.backgroundColor);
      if (colour[3] > 0) layers.unshift(colour);
      if (colour[3] === 1) break;
    }
    if (layers[0]?.[3] !== 1) layers.unshift(rgba("Canvas"));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const opacity = (element) => {
    let all = 1;
    for (let at = element; at; at = at.parentElement) all *= getComputedStyle(at).opacity;
    return all;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    if (!text || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.closest("script, style, title, noscript, option, .unseen, :disabled")) continue;
    if (element.closest(".names .none")) continue;
    const ground = behind(element);
    if (!ground) continue;
    const style = getComputedStyle(element);
    const colour = rgba(element instanceof SVGElement ? style.fill : style.color);
    colour[3] *= opacity(element);
    const [one, other] = [light(over(colour, ground)), light(ground)];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([contrast, text.slice(0, 60), parseFloat(style.fontSize)]);
  }
  return found;
}
"""

# Of each word on the disc: [its text, its colour in sRGB, its box], and then it is hidden.
_ON_DISC = """
() => {
  const canvas = document.createElement("canvas").getContext("2d");
  return [...document.querySelectorAll("#disc .frame text")].map((element) => {
    canvas.fillStyle = getComputedStyle(element).fill;
    canvas.fillRect(0, 0, 1, 1);
    const { x, y, width, height } = element.getBoundingClientRect();
    element.style.visibility = "hidden";
    return [element.textContent, [...canvas.getImageData(0, 0, 1, 1).data],
      { x, y, width, height }];
  });
}
"""

# What reaches beyond the sides of the window, but for what scrolls by itself or is for ears alone.
_STICKING_OUT = """
() => {
  const width = document.documentElement.clientWidth;
  const scrolls = (element) => {
    for (let at = element.parentElement; at && at !== document.body; at = at.parentElement) {
      if (getComputedStyle(at).overflowX !== "visible") return true;
    }
    return false;
  };
  return [...document.body.querySelectorAll("*")]
    .filter((element) => element.checkVisibility({ visibilityProperty: true }))
    .filter((element) => {
      const { left, right, width: own } = element.getBoundingClientRect();
      return own > 1 && (right > width + 1 || left < -1) && !scrolls(element);
    })
    .map((element) => `${element.tagName}.${element.getAttribute("class")} ${element.id}`);
}
"""

_HIDDEN_TEXT = """
() => [...document.querySelectorAll("button, h1, h2, h3, label, summary, output, svg text")]
  .filter((element) => element.checkVisibility({ visibilityProperty: true }))
  .filter((element) => !element.closest(".unseen") && !(element instanceof SVGElement))
  .filter((element) => element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0
    && getComputedStyle(element).overflowX !== "visible")
  .map((element) => element.textContent.trim().slice(0, 60))
"""

_SVG_TEXT_OUT = """
() => [...document.querySelectorAll("svg text")]
  .filter((element) => element.checkVisibility({ visibilityProperty: true }))
  .filter((element) => {
    const own = element.getBoundingClientRect();
    return own.left < 0 || own.right > document.documentElement.clientWidth;
  })
  .map((element) => element.childNodes[0].data)
"""


def nameless(page: Any) -> list[str]:
    """Controls without a name."""
    return page.evaluate(_NAMELESS)


def contrasts(page: Any) -> list[tuple[float, str, float]]:
    """Of all visible texts on plain ground: the contrast, the text, its size in pixels."""
    return [(contrast, text, size) for contrast, text, size in page.evaluate(_CONTRASTS)]


def contrasts_on_disc(page: Any) -> list[tuple[float, str]]:
    """The contrast of each word on the disc with what is behind it; hides the words.

    That of the worst points, but for a fifth of all, which may be lines and dots.
    """
    found = []
    for text, colour, box in page.evaluate(_ON_DISC):
        with Image.open(io.BytesIO(page.screenshot(clip=box))) as picture:
            ground = np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()
        words = _light(colour[:3])
        sorted_ones = sorted(_contrast(words, _light(each)) for each in ground)
        found.append((round(sorted_ones[len(sorted_ones) // 5], 2), text))
    return found


def _light(colour: Iterable[int]) -> float:
    """The relative luminance of a colour of sRGB, by WCAG 2.2."""
    parts = [value / 255 for value in colour]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def sticking_out(page: Any) -> list[str]:
    """What reaches beyond the sides of the window, or of the picture that it is part of."""
    scrolled = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    wide = [f"the page, by {scrolled} px"] if scrolled > 0 else []
    return wide + page.evaluate(_STICKING_OUT) + page.evaluate(_SVG_TEXT_OUT)


def cut_off(page: Any) -> list[str]:
    """Words that their box cuts off."""
    return page.evaluate(_HIDDEN_TEXT)
