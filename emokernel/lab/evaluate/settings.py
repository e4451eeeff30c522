"""How much an evaluation writes: whole, or as much as a laptop can afford."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from emokernel.choices import LAW
from emokernel.errors import EmokernelError
from emokernel.lab.measure.sampling import Sampling


@dataclass(frozen=True)
class Settings:
    """How much is written; more of anything goes on where a run ended.

    openings: queries of each cell, at most. intensities: of the states by vector; prompted: those
    of them that prompts are given too, all unless given. strengths: of the emotions. doses: KL from
    the unsteered next-token distribution in nats per token, measured on as many of the unsteered
    texts as dose_texts. laws: of the emotions, beside the vectors' own. compared: how many of the
    emotions are asked for at these doses, and at these alone under the other laws; all unless
    given, and then at the strengths under all laws too. graded: how many of them are written at
    every strength, all unless given, the others at 1 alone. templates: of the prompts, none of
    which asks for nothing, and joined: those of them that are given together with vectors too; all
    unless given. reread: whether the unsteered model reads the texts again, for perplexity,
    adherence and divergence; they are NaN otherwise. batch_size: texts that are written at once.
    """

    openings: int = 50
    seeds: int = 3
    intensities: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    prompted: tuple[float, ...] | None = None
    strengths: tuple[float, ...] = (-1.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
    doses: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.6)
    dose_texts: int = 24
    laws: tuple[str, ...] = tuple(LAW)
    compared: int | None = None
    graded: int | None = None
    templates: tuple[str, ...] | None = None
    joined: tuple[str, ...] | None = None
    reread: bool = True
    sampling: Sampling = field(default_factory=Sampling)
    batch_size: int = 240

    def __post_init__(self) -> None:
        for name in (
            "intensities", "prompted", "strengths", "doses", "laws", "templates", "joined",
        ):  # fmt: skip
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, tuple(dict.fromkeys(given)))
        for name, least in (("openings", 2), ("seeds", 1), ("batch_size", 1), ("dose_texts", 1)):
            if getattr(self, name) < least:
                raise EmokernelError(
                    f"{name} must be at least {least}, got {getattr(self, name)}: there is no"
                    " interval without"
                )
        for name in ("compared", "graded"):
            given = getattr(self, name)
            if given is not None and given < 0:
                raise EmokernelError(f"{name} is a number of emotions, got {given}")
        if self.doses and not self.reread:
            raise EmokernelError("doses are measured by reading again: leave them out")
        if not self.intensities or not all(0 < each <= 1 for each in self.intensities):
            raise EmokernelError(
                f"intensities lie above 0 and at most at 1, got {self.intensities}"
            )
        prompted = self.intensities_of_prompts
        if not all(1.0 in given for given in (self.intensities, prompted, self.strengths)):
            raise EmokernelError(
                "the verdict is about intensity 1 and strength 1: let them be among the others"
            )
        if not set(prompted) <= set(self.intensities):
            raise EmokernelError(
                "prompts are compared with vectors at the same intensity: let those of prompts"
                f" {prompted} be among those of vectors {self.intensities}"
            )
        if self.templates is not None and not {*(self.joined or ())} <= {*self.templates}:
            raise EmokernelError(
                "what is given together with vectors is compared with prompts: let the joined"
                f" templates {self.joined} be among all templates {self.templates}"
            )
        if not all(math.isfinite(each) and each for each in self.strengths):
            raise EmokernelError(
                f"strengths are finite and not 0, which is the unsteered model: {self.strengths}"
            )
        if not all(law in LAW for law in self.laws):
            raise EmokernelError(f"unknown law in {self.laws}: choose of {', '.join(LAW)}")
        if not all(0 < each < math.inf for each in self.doses):
            raise EmokernelError(f"doses are nats per token above 0, got {self.doses}")

    @property
    def intensities_of_prompts(self) -> tuple[float, ...]:
        """What prompts are given of the intensities."""
        return self.intensities if self.prompted is None else self.prompted


# What a model of a few million parameters can afford to be asked.
WHOLE = Settings()
# What a chat model of 135 million parameters can afford on two cores.
LAPTOP = Settings(
    openings=10,
    seeds=3,
    prompted=(0.5, 1.0),
    strengths=(-1.0, 0.25, 0.5, 0.75, 1.0, 1.5),
    doses=(0.1, 0.4, 1.6),
    dose_texts=8,
    compared=4,
    joined=("values", "word"),
    sampling=Sampling(48),
)
