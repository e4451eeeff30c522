"""Where to steer: the sites and layer profiles that a calibration tries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from emokernel.affect import TABLES, Coordinates
from emokernel.choices import SITE
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import Calibration, key_of


@dataclass(frozen=True, eq=False)
class Candidate:
    """Vectors, the site at which they are added, and their layer profile ``[L]``.

    twins: the same layers at another site, to be tried if this one does well.
    """

    name: str
    vectors: EmotionVectors
    site: str
    profile: tuple[float, ...]
    twins: tuple[Candidate, ...] = ()

    def raw(self, doses: Sequence[tuple[str, str]], coordinates: Coordinates) -> EmotionVectors:
        """The vectors at this site and profile, with 1.0 as the weight of strength 1.0."""
        law, dose = doses[0]
        name = coordinates.name
        known = name in TABLES and coordinates == Coordinates.named(name)
        points = {label: (at.valence, at.arousal) for label, at in coordinates.points.items()}
        ones = {key_of(*each): dict.fromkeys(self.vectors.names, 1.0) for each in doses}
        return self.vectors.with_calibration(
            Calibration(
                self.site, self.profile, law, dose, "wheel", coordinates.name, ones, {},
                table={} if known else points,
            )
        )  # fmt: skip


def candidates(
    vectors: Sequence[EmotionVectors], sites: Sequence[str] | None = None
) -> list[Candidate]:
    """The vectors at ``sites`` with every profile, none twice.

    Unless sites are given, each file is tried at its own; of a single one the candidates have twins
    at the other. Profiles: all layers; the early, middle and late half of them; the second
    quarter, the middle third and the third quarter; the one at half and the one at two thirds of
    the depth; and what the diagnostics of the extraction suggest. Their size does not matter, since
    doses are equal afterwards.
    """
    distinct: dict[tuple, Candidate] = {}
    for number, each in enumerate(vectors):
        for site in sites or [each.site]:
            for name, profile in _profiles(each):
                kept = tuple(w * (layer in each.layers) for layer, w in enumerate(profile))
                prefix = f"file {number + 1}, " if len(vectors) > 1 else ""
                others = [s for s in SITE if s != site] if not sites and len(vectors) == 1 else []
                one, *twins = (
                    Candidate(f"{prefix}site {s}, {name}", each, s, kept) for s in (site, *others)
                )
                if any(kept):
                    candidate = replace(one, twins=tuple(twins))
                    distinct.setdefault((number, site, kept), candidate)
    return list(distinct.values())


def _profiles(vectors: EmotionVectors) -> Iterator[tuple[str, list[float]]]:
    count = vectors.num_layers
    suggested = vectors.diagnostics.get("suggested_profile")
    if suggested:
        yield "suggested layers", list(suggested)

    def window(start: float, end: float) -> list[float]:
        first, last = round(start * count), max(round(end * count), round(start * count) + 1)
        return [float(first <= layer < last) for layer in range(count)]

    yield "all layers", [1.0] * count
    yield "early layers", window(0, 0.5)
    yield "middle layers", window(0.25, 0.75)
    yield "late layers", window(0.5, 1)
    yield "second quarter", window(0.25, 0.5)
    yield "middle third", window(1 / 3, 2 / 3)
    yield "third quarter", window(0.5, 0.75)
    for name, depth in (("one layer at half", 0.5), ("one layer at two thirds", 2 / 3)):
        place = min(int(depth * count), count - 1) / count
        yield name, window(place, place)
