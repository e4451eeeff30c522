"""The demo's picture of emotions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from emokernel.affect import angle_of


def circumplex(
    path: Path,
    states: Sequence[Mapping[str, float]],
    emotions: Mapping[str, Mapping[str, float]],
) -> None:
    """The 12 target states and where the judge places the texts; probability by emotion."""
    figure, (circle, bars) = plt.subplots(
        1, 2, figsize=(13, 6.2), width_ratios=(1, 1.05), layout="constrained"
    )
    colours = plt.get_cmap("twilight_shifted")
    circle.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.7"))
    circle.axhline(0, color="0.9", zorder=0)
    circle.axvline(0, color="0.9", zorder=0)
    for emotion in emotions:
        angle = angle_of(emotion)
        if angle is not None:
            x, y = (1.13 * f(math.radians(angle)) for f in (math.cos, math.sin))
            circle.plot(x / 1.13, y / 1.13, ".", color="0.6", markersize=4)
    reach = max(math.hypot(s["measured_valence"], s["measured_arousal"]) for s in states) or 1.0
    for state in states:
        target = state["valence"], state["arousal"]
        colour = colours((math.degrees(math.atan2(target[1], target[0])) % 360) / 360)
        measured = [state[f"measured_{axis}"] * 0.85 / reach for axis in ("valence", "arousal")]
        circle.plot(*target, "o", color=colour, markersize=11)
        circle.annotate(
            "", measured, target, arrowprops={"arrowstyle": "->", "color": colour, "alpha": 0.6}
        )
        circle.plot(*measured, "s", color=colour, markersize=7, markeredgecolor="0.2")
    circle.set(
        xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal",
        xlabel="valence", ylabel="arousal",
        title="12 states: asked for (circles), read by the judge (squares)\n"
        f"squares magnified {0.85 / reach:.1f} times",
    )  # fmt: skip
    names = sorted(emotions, key=lambda name: emotions[name]["steered"])
    looks = {"unsteered": ("0.8", "unsteered"), "prefix": ("#8fb3d9", "by prefix"),
             "steered": ("#d1495b", "by vector")}  # fmt: skip
    for offset, (condition, (colour, label)) in zip((0.27, 0, -0.27), looks.items(), strict=True):
        bars.barh(
            [row + offset for row in range(len(names))],
            [emotions[name][condition] for name in names],
            0.26, color=colour, label=label,
        )  # fmt: skip
    bars.set_yticks(range(len(names)), names)
    bars.set(xlabel="judge's mean probability of the intended emotion", title="Emotions")
    bars.spines[["top", "right"]].set_visible(False)
    bars.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
