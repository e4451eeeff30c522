"""The ways to run a model that are compared, and what each is compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from emokernel.errors import EmokernelError

NOTHING, HOOK_ADD, HOOK, OURS = "nothing", "hook_add", "hook", "emokernel"
EAGER, COMPILED, GRAPH = "eager", "compiled", "graph"
UNPATCHED, PLAIN_HOOK_ADD, PLAIN_HOOK = "unpatched", "plain_hook_add", "plain_hook"
EMOKERNEL = "emokernel"


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
