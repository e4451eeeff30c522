"""The calibration of a set of emotion vectors, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from tqdm import tqdm

from emokernel.affect import Affect
from emokernel.affect.mixes import Mixer
from emokernel.choices import MAPPING
from emokernel.errors import EmokernelError, SteeringError
from emokernel.lab.calibrate.calibrated import Calibrated, Row
from emokernel.lab.calibrate.candidates import Candidate, candidates
from emokernel.lab.calibrate.choose import Bounds, Point
from emokernel.lab.calibrate.frontier import best, refine
from emokernel.lab.calibrate.halving import Arm, halve, levels
from emokernel.lab.calibrate.measuring import Measuring, Steered
from emokernel.lab.calibrate.plan import PROBE, Plan, each
from emokernel.lab.calibrate.setting import Setting
from emokernel.lab.measure.equal_doses import Ask
from emokernel.lab.measure.journal import Journal
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import STATES_OF_CIRCLE, Calibration, key_of

STATES = tuple(Affect.at(360 / STATES_OF_CIRCLE * number) for number in range(STATES_OF_CIRCLE))
CANDIDATES, FRONTIER = "1/4 site and layers", "2/4 frontier"
LAWS, CIRCLE = "3/4 law and dose", "4/4 circle"
STAGES = (CANDIDATES, FRONTIER, LAWS, CIRCLE)


class Calibrator:
    """Finds site and layer profile, then the strengths, then law and dose; docs/calibration.md.

    Candidates are compared under the first law and dose. Strength 1.0 is the best dose within the
    bounds (`choose`). Another law, dose or mapping than the first is chosen only if it is surely
    better.
    """

    def __init__(
        self,
        setting: Setting,
        bounds: Bounds,
        doses: Sequence[tuple[str, str]],
        journal: Journal,
        plan: Plan,
        *,
        progress: bool = True,
    ) -> None:
        """``doses``: (law, dose) pairs; ``journal`` keeps what was measured."""
        self._setting, self._bounds, self._doses = setting, bounds, tuple(doses)
        self._plan = plan
        self._bar = tqdm(unit=" tokens", unit_scale=True, disable=not progress)
        self._landscape = Measuring(setting, journal, self._bar)
        self._rows: list[Row] = []
        self._chosen: dict[str, dict[str, Point]] = {}

    def run(self, vectors: Sequence[EmotionVectors], sites: Sequence[str] | None) -> Calibrated:
        """Calibrate."""
        tried = candidates(vectors, sites)
        try:
            self._texts = self._plan.texts(
                len(tried), any(candidate.twins for candidate in tried),
                len(tried[0].vectors.names), len(self._doses), len(STATES),
            )  # fmt: skip
            scores, arm = self._candidates(tried)
            chosen = next(iter(scores))
            calibration = self._circle(chosen, self._laws(chosen, self._frontier(chosen, arm)))
        finally:
            self._landscape.close()
            self._bar.close()
        record = {
            "candidates": {candidate.name: score for candidate, score in scores.items()},
            "chosen": chosen.name,
            "bounds": asdict(self._bounds),
            "judge": self._setting.judge.name,
            "judge_digest": self._setting.judge.digest(),
            "prompts": len(self._setting.prompts.pairs),
            "sampling": asdict(self._setting.sampling),
            "plan": asdict(self._plan),
            "tokens": {"written": self._landscape.written, "read": self._landscape.read_again},
            "at_strength_1": {
                key: {name: asdict(point) for name, point in points_by_name.items()}
                for key, points_by_name in self._chosen.items()
            },
        }
        vectors = chosen.vectors.with_calibration(replace(calibration, record=record))
        return Calibrated(vectors, tuple(self._rows), self._chosen)

    def _candidates(self, tried: Sequence[Candidate]) -> tuple[dict[Candidate, float], Arm]:
        """The candidates with the mean effect of each at its best dose, the chosen one first."""
        self._begin(CANDIDATES)
        of: dict[Arm, Candidate] = {}

        def arm(candidate: Candidate, at: Sequence[float]) -> Arm:
            raw = candidate.raw(self._doses, self._setting.coordinates)
            steered = Steered(candidate.name, raw)
            asks = [Ask(name, name, *self._doses[0]) for name in steered.vectors.names]
            made = Arm(candidate.name, steered, dict.fromkeys(asks, at))
            of[made] = candidate
            return made

        probes = [arm(candidate, (PROBE,)) for candidate in tried]
        self._levels = levels(self._landscape, probes, self._plan.probe, self._bounds)
        first = [arm(candidate, self._levels) for candidate in tried]
        scores = halve(
            self._landscape, first, self._plan.candidates, self._bounds,
            also=lambda kept: [arm(twin, self._levels) for twin in of[kept].twins],
        )  # fmt: skip
        chosen = next(iter(scores))
        for each_arm in scores:
            if each_arm is not chosen:
                self._keep(CANDIDATES, each_arm)
        return {of[arm]: score.mean for arm, score in scores.items()}, chosen

    def _frontier(self, candidate: Candidate, arm: Arm) -> Arm:
        """With the strengths of the emotions under the first law and dose."""
        self._begin(FRONTIER)
        used = sum(each(texts, len(arm.asks)) for texts in self._plan.candidates)
        refine(self._landscape, arm, self._plan.frontier, self._bounds, used)
        self._keep(FRONTIER, arm)
        found = best(self._landscape, arm, self._bounds)
        self._chosen[key_of(*self._doses[0])] = {ask.name: point for ask, point in found.items()}
        return arm

    def _laws(self, candidate: Candidate, arm: Arm) -> Calibration:
        """With the law and dose that are chosen, and the strengths of all."""
        first = self._chosen[key_of(*self._doses[0])]
        levels = {name: [point.divergence] for name, point in first.items() if point.strength}
        chosen = self._doses[0]
        if len(self._doses) > 1 and levels:
            self._begin(LAWS)
            arms = {}
            for pair in self._doses:
                asks = {Ask(name, name, *pair): of for name, of in levels.items()}
                known = arm.ladders if pair == self._doses[0] else {}
                arms[Arm(key_of(*pair), arm.steered, asks, dict(known))] = pair
            scores = halve(
                self._landscape, list(arms), self._plan.laws, self._bounds, prefer_first=True
            )
            chosen = arms[next(iter(scores))]
            for law_arm, pair in arms.items():
                if law_arm not in scores:
                    continue
                self._keep(LAWS, law_arm)
                if pair != self._doses[0]:
                    self._chosen[key_of(*pair)] = self._at_equal_dose(law_arm, first)
        strengths = {
            key: {name: point.strength for name, point in points_by_name.items()}
            for key, points_by_name in self._chosen.items()
        }
        law, dose = chosen
        raw = arm.steered.vectors.calibration
        return replace(raw, law=law, dose=dose, strengths=strengths)

    def _at_equal_dose(self, arm: Arm, first: Mapping[str, Point]) -> dict[str, Point]:
        """Of another law the points as far from the unsteered model as those of the first."""
        measured = {
            ask.name: point
            for ask in arm.asks
            for point in arm.points(self._landscape, ask).values()
        }
        return {name: measured.get(name, point) for name, point in first.items()}

    def _circle(self, candidate: Candidate, calibration: Calibration) -> Calibration:
        """With the factors of the circle, if the table knows the emotions."""
        self._begin(CIRCLE)
        law, dose = calibration.law, calibration.dose
        arms: dict[Arm, str] = {}
        for mapping in MAPPING:
            key = key_of(law, dose, mapping)
            interim = replace(calibration, mapping=mapping, circle={key: (1.0,) * len(STATES)})
            asks = [Ask(f"{state.angle:.0f} {mapping}", state, law, dose) for state in STATES]
            vectors = candidate.vectors.with_calibration(interim)
            try:
                self._setting.places()
                possible = _possible(vectors, asks)
            except EmokernelError as error:
                tqdm.write(f"  {mapping}: left out ({error})")
                continue
            steered = Steered(f"{candidate.name}, {mapping}", vectors)
            arms[Arm(mapping, steered, dict.fromkeys(possible, self._levels))] = mapping
        if not arms:
            return calibration
        try:
            scores = halve(
                self._landscape, list(arms), self._plan.mappings, self._bounds, prefer_first=True
            )
        except SteeringError as error:
            tqdm.write(f"  the circle: left out ({error})")
            return calibration
        chosen = next(iter(scores))
        used = sum(each(texts, len(chosen.asks)) for texts in self._plan.mappings)
        refine(self._landscape, chosen, self._plan.circle, self._bounds, used)
        circle: dict[str, tuple[float, ...]] = {}
        nothing = Point(0.0, 0.0, 0.0, 1.0, 1.0)
        for arm in scores:
            self._keep(CIRCLE, arm)
            found = {ask.name: p for ask, p in best(self._landscape, arm, self._bounds).items()}
            names = [f"{state.angle:.0f} {arms[arm]}" for state in STATES]
            key = key_of(law, dose, arms[arm])
            self._chosen[key] = {name: found.get(name, nothing) for name in names}
            circle[key] = tuple(point.strength for point in self._chosen[key].values())
        return replace(calibration, mapping=arms[chosen], circle=circle)

    def _keep(self, stage: str, arm: Arm) -> None:
        """What was measured of an arm goes to the rows."""
        self._rows += [
            Row(stage, arm.steered.name, ask.name, ask.law, ask.dose, point)
            for ask in arm.taken
            for point in arm.points(self._landscape, ask).values()
        ]

    def _begin(self, stage: str) -> None:
        """Tell the bar the stage, and how many tokens are still to be written and read at most."""
        self._bar.set_description(stage, refresh=False)
        left = sum(self._texts[STAGES.index(stage) :])
        self._bar.total = self._bar.n + self._landscape.expected(left)
        self._bar.refresh()


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
