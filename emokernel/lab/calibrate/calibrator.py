"""The calibration of a set of emotion vectors, stage by stage, and what it gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from statistics import mean

from tqdm import tqdm

from emokernel.affect import Affect
from emokernel.affect.mixes import Mixer
from emokernel.atomic import write_text
from emokernel.choices import MAPPING
from emokernel.errors import EmokernelError, ModelStructureError, SteeringError
from emokernel.lab.calibrate.candidates import Candidate, candidates
from emokernel.lab.calibrate.choose import Bounds, Point, choose, first_of_equal
from emokernel.lab.calibrate.points import Setting, Texts, points, unsteered
from emokernel.lab.measure.equal_doses import MOST_REQUESTS, Ask, equal_doses
from emokernel.lab.measure.journal import Journal
from emokernel.steering import patch
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import STATES_OF_CIRCLE, Calibration, key_of

# Doses that are tried: KL in nats per token.
FEW_LEVELS = (0.2, 0.5, 1.0)
LEVELS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.1, 1.6, 2.4)
STATES = tuple(Affect.at(360 / STATES_OF_CIRCLE * number) for number in range(STATES_OF_CIRCLE))
_TEXTS_OF_DOSE = 8
CANDIDATES, FRONTIER, CIRCLE = "1/3 site and layers", "2/3 frontier", "3/3 circle"


@dataclass(frozen=True)
class Row:
    """One measured point and what it belongs to."""

    stage: str
    candidate: str
    name: str
    law: str
    dose: str
    point: Point


@dataclass(frozen=True)
class Calibrated:
    """``vectors`` with their calibration, all points that were measured, and what was chosen.

    ``chosen``: {law and dose: {emotion or state: the point at strength 1.0, smoothed}}.
    """

    vectors: EmotionVectors
    rows: tuple[Row, ...]
    chosen: Mapping[str, Mapping[str, Point]]

    def save_rows(self, path: str | PathLike[str]) -> None:
        """Write all points as JSON lines, each of them flat."""
        flat = (vars(row) | vars(row.point) for row in self.rows)
        lines = ({name: value for name, value in row.items() if name != "point"} for row in flat)
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))

    def summary(self) -> str:
        """What was chosen, as a table."""
        calibration = self.vectors.calibration
        law, dose = calibration.law, calibration.dose
        layers = [layer for layer, weight in enumerate(calibration.profile) if weight]
        keys = key_of(law, dose), key_of(law, dose, calibration.mapping)
        shown = [each for key in keys for each in self.chosen.get(key, {}).items()]
        lines = [
            f"chosen: {calibration.record['chosen']} (layers {layers}), law {law}, dose {dose},"
            f" mapping {calibration.mapping}",
            "",
            "At strength 1.0 (emotion: the judge's probability; state: affect along its direction;"
            " perplexity and distinct-3 times unsteered):",
            f"  {'':<16}{'strength':>10}{'effect':>9}{'perplexity':>12}{'distinct-3':>12}",
        ]
        lines += [
            f"  {name:<16}{point.strength:>10.3g}{point.effect:>9.3f}{point.perplexity:>12.2f}"
            f"{point.distinct:>12.2f}"
            for name, point in shown
        ]
        weak = [name for name, point in shown if not point.strength]
        if weak:
            lines.append(f"No dose within the bounds strengthens {', '.join(weak)}.")
        candidates = calibration.record["candidates"]
        lines += ["", "Mean effect of the sites and layers that were tried, at their best doses:"]
        lines += [f"  {name:<48}{score:>8.3f}" for name, score in candidates.items()]
        lines += ["", "Mean effect at strength 1.0 by law, dose and mapping:"]
        lines += [
            f"  {key:<26}{mean(point.effect for point in points.values()):>8.3f}"
            for key, points in self.chosen.items()
        ]
        return "\n".join(lines)


class Calibrator:
    """Finds site and layer profile, then law and dose, then the strengths; docs/calibration.md.

    Candidates are compared under the first law and dose. Strength 1.0 is the best dose within the
    bounds (`choose`), of laws, doses and mappings that are as strong within `NOISE` the first.
    """

    def __init__(
        self,
        setting: Setting,
        bounds: Bounds,
        doses: Sequence[tuple[str, str]],
        journal: Journal,
        *,
        progress: bool = True,
    ) -> None:
        """``doses``: (law, dose) pairs; ``journal`` keeps what was measured."""
        self._setting, self._bounds, self._doses = setting, bounds, tuple(doses)
        # Half of the prompts will do to choose among sites and layers.
        few = replace(setting.prompts, pairs=setting.prompts.pairs[::2])
        self._few = replace(setting, prompts=few)
        self._journal, self._progress = journal, progress
        self._plain: dict[bool, Texts] = {}  # behind the few prompts, behind all
        self._rows: list[Row] = []
        self._chosen: dict[str, dict[str, Point]] = {}

    def run(self, vectors: Sequence[EmotionVectors], sites: Sequence[str] | None) -> Calibrated:
        """Calibrate."""
        scores = self._scores(candidates(vectors, sites))
        chosen = max(scores, key=scores.get)
        calibration = self._circle(chosen, self._frontier(chosen))
        record = {
            "candidates": {candidate.name: score for candidate, score in scores.items()},
            "chosen": chosen.name,
            "bounds": asdict(self._bounds),
            "judge": self._setting.judge.name,
            "judge_digest": self._setting.judge.digest(),
            "prompts": len(self._setting.prompts.pairs),
            "sampling": asdict(self._setting.sampling),
            "at_strength_1": {
                key: {name: asdict(point) for name, point in points_by_name.items()}
                for key, points_by_name in self._chosen.items()
            },
        }
        vectors = chosen.vectors.with_calibration(replace(calibration, record=record))
        return Calibrated(vectors, tuple(self._rows), self._chosen)

    def _scores(self, tried: Sequence[Candidate]) -> dict[Candidate, float]:
        """Mean effect over the emotions of each candidate, each at its best dose in the bounds.

        A candidate that the model or its vectors do not allow is left out; if none is left, that is
        an error.
        """
        scores: dict[Candidate, float] = {}
        for number, candidate in enumerate(tried):
            raw = candidate.raw(self._doses[:1], self._setting.coordinates)
            asks = [Ask(name, name, *self._doses[0]) for name in raw.names]
            title = f"{CANDIDATES}, {number + 1} of {len(tried)}"
            try:
                best = self._best(raw, asks, title, candidate, self._few)
            except (ModelStructureError, SteeringError) as error:
                tqdm.write(f"  {candidate.name}: left out ({error})")
                refused = error
            else:
                scores[candidate] = mean(point.effect for point in best.values())
        if not scores:
            raise refused
        return scores

    def _frontier(self, candidate: Candidate) -> Calibration:
        raw = candidate.raw(self._doses, self._setting.coordinates)
        asks = [Ask(name, name, *each) for each in self._doses for name in raw.names]
        best = self._best(raw, asks, FRONTIER, candidate, self._setting)
        for ask, point in best.items():
            self._chosen.setdefault(key_of(ask.law, ask.dose), {})[ask.name] = point
        effects = {
            each: mean(p.effect for p in self._chosen[key_of(*each)].values())
            for each in self._doses
        }
        law, dose = first_of_equal(effects)
        strengths = {
            key: {name: point.strength for name, point in points_by_name.items()}
            for key, points_by_name in self._chosen.items()
        }
        return replace(raw.calibration, law=law, dose=dose, strengths=strengths)

    def _circle(self, candidate: Candidate, calibration: Calibration) -> Calibration:
        """With the factors of the circle, if the table knows the emotions."""
        law, dose = calibration.law, calibration.dose
        nothing = Point(0.0, 0.0, 0.0, 1.0, 1.0)
        circle: dict[str, tuple[float, ...]] = {}
        effects: dict[str, float] = {}
        for mapping in MAPPING:
            key = key_of(law, dose, mapping)
            interim = replace(calibration, mapping=mapping, circle={key: (1.0,) * len(STATES)})
            asks = [Ask(f"{state.angle:.0f} {mapping}", state, law, dose) for state in STATES]
            vectors = candidate.vectors.with_calibration(interim)
            try:
                self._setting.places()
                possible, title = _possible(vectors, asks), f"{CIRCLE}, {mapping}"
                found = self._best(vectors, possible, title, candidate, self._setting)
            except EmokernelError as error:
                tqdm.write(f"  {mapping}: left out ({error})")
                continue
            points = [found.get(ask, nothing) for ask in asks]
            self._chosen[key] = {ask.name: p for ask, p in zip(asks, points, strict=True)}
            circle[key] = tuple(point.strength for point in points)
            effects[mapping] = mean(point.effect for point in points)
        if not circle:
            return calibration
        return replace(calibration, mapping=first_of_equal(effects), circle=circle)

    def _best(
        self,
        vectors: EmotionVectors,
        asks: Sequence[Ask],
        title: str,
        candidate: Candidate,
        setting: Setting,
    ) -> dict[Ask, Point]:
        """The best point of each ask within the bounds; all that is measured goes to the rows."""
        few = setting is self._few
        levels, texts = (FEW_LEVELS, _TEXTS_OF_DOSE // 2) if few else (LEVELS, _TEXTS_OF_DOSE)
        measured: dict[Ask, list[Point]] = {ask: [] for ask in asks}
        steering = patch(setting.model, vectors, slots=MOST_REQUESTS)
        try:
            if few not in self._plain:
                self._plain[few] = unsteered(setting, steering)
            plain = self._plain[few]
            stage = title.partition(",")[0]
            step = f"{stage} | {candidate.name}"
            with tqdm(desc=f"{title}: dose", unit=" rows", disable=not self._progress) as bar:
                doses = equal_doses(
                    setting.model, steering, plain.encoded(setting, texts), asks, levels, bar.update
                )
            measuring = points(setting, steering, plain, doses, self._journal, step)
            total = sum(map(len, doses.values()))
            for ask, point in tqdm(
                measuring, total=total, desc=title, unit=" doses", disable=not self._progress
            ):
                measured[ask].append(point)
                self._rows.append(Row(stage, candidate.name, ask.name, ask.law, ask.dose, point))
        finally:
            steering.unpatch()
        return {
            ask: choose(ladder, plain.effect(setting, ask), self._bounds)
            for ask, ladder in measured.items()
        }


def _possible(vectors: EmotionVectors, asks: Sequence[Ask]) -> list[Ask]:
    """Those with an emotion in their mix that any dose strengthens; EmokernelError if none has."""
    calibration = vectors.calibration
    mixer = Mixer(vectors, calibration, calibration.mapping)
    refused: dict[Ask, SteeringError] = {}
    for ask in asks:
        try:
            mixer.components(ask.emotion, 1.0, ask.law, ask.dose)
        except SteeringError as error:
            refused[ask] = error
    if len(refused) == len(asks):
        raise refused[asks[-1]]
    return [ask for ask in asks if ask not in refused]
