"""The colours of the twelve states can be told apart, with every kind of colour vision."""

from itertools import combinations

import numpy as np
import pytest
from browser.hands import opened

# sRGB of each state, as the page paints it.
PAINTED = """
async () => {
  const { paint } = await import("/page/scripts/colour.js");
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  return Array.from({ length: 12 }, (_, state) => {
    const element = document.createElement("i");
    element.className = "swatch mood";
    document.body.append(element);
    const turn = (state * Math.PI) / 6;
    paint(element, { valence: Math.cos(turn), arousal: Math.sin(turn) });
    canvas.fillStyle = getComputedStyle(element).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    element.remove();
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  });
}
"""
# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
# Björn Ottosson's OKLab: linear RGB to cones, and the cube roots of those to L, a, b.
CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
OKLAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip
LEAST = 0.11


def linear(colours):
    parts = np.array(colours) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def oklab(colours):
    return np.cbrt(np.clip(colours, 0, 1) @ CONES.T) @ OKLAB.T


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_states_two_steps_apart_look_different_to_everybody(contexts, scripted, scheme):
    watched = contexts(scripted.url, color_scheme=scheme)
    colours = linear(opened(watched, scripted.url).evaluate(PAINTED))
    for vision, matrix in VISION.items():
        seen = oklab(colours @ np.array(matrix).T)
        near = {
            (30 * one, 30 * two): float(np.linalg.norm(seen[one] - seen[two]))
            for one, two in combinations(range(12), 2)
            if 2 <= two - one <= 10
        }
        assert min(near.values()) >= LEAST, (vision, sorted(near.items(), key=lambda x: x[1])[:3])
