"""What is compared: ways to run a model, each with its baseline, and cases to run it in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from emokernel.errors import EmokernelError
from emokernel.vectors import EmotionVectors

ONE, DIFFERENT, BLENDS = "one", "different", "blends"
MIXES = (ONE, DIFFERENT, BLENDS)
_BLEND = (0.5, 0.3, 0.2)

Mix = Mapping[str, float]

NOTHING, HOOK_ADD, HOOK, OURS = "nothing", "hook_add", "hook", "emokernel"
EAGER, COMPILED, GRAPH = "eager", "compiled", "graph"
UNPATCHED, PLAIN_HOOK_ADD, PLAIN_HOOK = "unpatched", "plain_hook_add", "plain_hook"
EMOKERNEL = "emokernel"


@dataclass(frozen=True)
class Case:
    """``batch`` sequences behind ``context`` tokens, of which the first ``share`` is steered.

    ``mixes``: "one", the same emotion for all of them; "different", an emotion or strength of its
    own for each; "blends", a different mix of three emotions for each.
    """

    batch: int = 1
    context: int = 64
    share: float = 1.0
    mixes: str = ONE

    @property
    def steered(self) -> int:
        """How many sequences are steered."""
        return round(self.share * self.batch)

    def __str__(self) -> str:
        text = f"batch {self.batch}, context {self.context}, {self.steered} steered"
        return text if not self.steered else f"{text} ({self.mixes})"

    @property
    def distinct(self) -> int:
        """How many different mixes are asked for."""
        return min(1, self.steered) if self.mixes == ONE else self.steered

    def check(self, names: Sequence[str]) -> None:
        """EmokernelError if the emotions ``names`` are too few."""
        if self.mixes == BLENDS and len(names) < len(_BLEND):
            raise EmokernelError(
                f"blends need at least {len(_BLEND)} emotions, these vectors have {len(names)}:"
                " leave blends out of --mixes"
            )

    def asked(self, names: Sequence[str]) -> list[Mix | None]:
        """What each sequence asks for, of the emotions ``names``; EmokernelError if too few."""
        self.check(names)
        steered = [self._mix(number, names) for number in range(self.steered)]
        return [*steered, *[None] * (self.batch - self.steered)]

    def _mix(self, number: int, names: Sequence[str]) -> Mix:
        if self.mixes == ONE:
            return {names[0]: 1.0}
        cycle, first = divmod(number, len(names))
        strength = 1.0 - 0.5 * cycle / self.batch  # another one when the emotions begin anew
        weights = (1.0,) if self.mixes == DIFFERENT else _BLEND
        return {
            names[(first + k) % len(names)]: strength * weight for k, weight in enumerate(weights)
        }

    def vectors(self, vectors: EmotionVectors) -> Tensor:
        """The same as one vector per layer and sequence, ``[L, batch, 1, d]``, zero for none."""
        rows = torch.zeros(vectors.num_layers, self.batch, 1, vectors.hidden_size)
        for row, mix in enumerate(self.asked(vectors.names)):
            for name, weight in (mix or {}).items():
                rows[:, row, 0] += weight * vectors[name]
        return rows


def cases(
    batches: Sequence[int], contexts: Sequence[int], shares: Sequence[float], mixes: Sequence[str]
) -> list[Case]:
    """All that differ, in order; a share is rounded to whole sequences, but not to none."""
    found: dict[Case, None] = {}
    for batch, context, share, kind in product(batches, contexts, shares, mixes):
        steered = max(1, round(share * batch)) if share else 0
        # One sequence alone cannot differ from others, and none can differ at all.
        alike = not steered or (steered == 1 and kind == DIFFERENT)
        found[Case(batch, context, steered / batch, ONE if alike else kind)] = None
    return list(found)


@dataclass(frozen=True)
class Variant:
    """What steers (or nothing does), and how the decode steps are run.

    ``again``: the baseline of its mode measured a second time in the same rounds, whose difference
    from the first is noise.
    """

    name: str
    steering: str
    mode: str
    again: bool = False

    @property
    def label(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    @property
    def baseline(self) -> str:
        """The name of the unpatched model, run in the same way."""
        return UNPATCHED if self.mode == EAGER else f"{UNPATCHED}_{self.mode}"

    @property
    def noise(self) -> str:
        """The name of the baseline measured again."""
        return f"{self.baseline}_again"

    @property
    def hook(self) -> str:
        """The name of the plain hook that is run in the same way."""
        return PLAIN_HOOK if self.mode == EAGER else f"{self.mode}_hook"


_ALL = (
    Variant(UNPATCHED, NOTHING, EAGER),
    Variant("unpatched_again", NOTHING, EAGER, again=True),
    Variant(PLAIN_HOOK_ADD, HOOK_ADD, EAGER),
    Variant(PLAIN_HOOK, HOOK, EAGER),
    Variant(EMOKERNEL, OURS, EAGER),
    Variant("unpatched_compiled", NOTHING, COMPILED),
    Variant("unpatched_compiled_again", NOTHING, COMPILED, again=True),
    Variant("compiled_hook", HOOK, COMPILED),
    Variant("emokernel_compiled", OURS, COMPILED),
    Variant("unpatched_graph", NOTHING, GRAPH),
    Variant("unpatched_graph_again", NOTHING, GRAPH, again=True),
    Variant("emokernel_graph", OURS, GRAPH),
)
VARIANTS = {variant.name: variant for variant in _ALL}
# What a user can ask for: the second measurement of a baseline comes with the baseline.
CHOICES = tuple(variant.name for variant in _ALL if not variant.again)


def with_baselines(names: Iterable[str]) -> list[Variant]:
    """The variants of these names, their baselines and the second measurement of those, in order.

    EmokernelError for an unknown name.
    """
    wanted: set[str] = set()
    for name in names:
        if name not in CHOICES:
            raise EmokernelError(f"unknown variant {name!r}: choose from {', '.join(CHOICES)}")
        wanted |= {name, VARIANTS[name].baseline, VARIANTS[name].noise}
    return [variant for variant in _ALL if variant.name in wanted]
