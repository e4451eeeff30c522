"""Ways to run a model, and what each of them is compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from emokernel.errors import EmokernelError

NOTHING, HOOK_ADD, HOOK = "nothing", "hook_add", "hook"
OURS, OURS_ADD = "emokernel", "emokernel_add"
EAGER, COMPILED, GRAPH = "eager", "compiled", "graph"
UNPATCHED, PLAIN_HOOK_ADD, PLAIN_HOOK = "unpatched", "plain_hook_add", "plain_hook"
EMOKERNEL = "emokernel"
_AGAIN = "_again"
# The hook that does the same work, by what steers and how the steps are run.
_RIVALS = {
    (OURS, EAGER): PLAIN_HOOK,
    (OURS_ADD, EAGER): PLAIN_HOOK_ADD,
    (OURS, COMPILED): "compiled_hook",
}


@dataclass(frozen=True)
class Variant:
    """What steers (or nothing does), how the decode steps are run, and what it is compared with.

    ``again``: the ``baseline`` measured a second time in the same rounds, whose difference from the
    first is noise.
    """

    name: str
    steering: str
    mode: str
    baseline: str
    again: bool = False

    @property
    def label(self) -> str:
        """The name in words."""
        return in_words(self.name)

    @property
    def noise(self) -> str:
        """The name of the baseline measured again."""
        return self.baseline + _AGAIN

    @property
    def hook(self) -> str | None:
        """The name of the plain hook that does the same work in the same way, if there is one."""
        return None if self.again else _RIVALS.get((self.steering, self.mode))

    @property
    def law(self) -> str:
        """What is done to a row: "preserve" its norm, or only "add"."""
        return "add" if self.steering in (HOOK_ADD, OURS_ADD) else "preserve"

    @property
    def is_ours(self) -> bool:
        """Whether emokernel steers."""
        return self.steering in (OURS, OURS_ADD)

    @property
    def is_hooked(self) -> bool:
        """Whether plain forward hooks steer."""
        return self.steering in (HOOK, HOOK_ADD)


def in_words(name: str) -> str:
    """The name of a variant as it is printed."""
    return name.replace("_", " ")


_ALL = (
    (UNPATCHED, NOTHING, EAGER),
    (PLAIN_HOOK_ADD, HOOK_ADD, EAGER),
    ("emokernel_add", OURS_ADD, EAGER),
    (PLAIN_HOOK, HOOK, EAGER),
    (EMOKERNEL, OURS, EAGER),
    ("unpatched_compiled", NOTHING, COMPILED),
    ("compiled_hook", HOOK, COMPILED),
    ("emokernel_compiled", OURS, COMPILED),
    ("unpatched_graph", NOTHING, GRAPH),
    ("emokernel_graph", OURS, GRAPH),
)
# What a user can ask for: the second measurement of a baseline comes with the baseline.
CHOICES = tuple(name for name, _, _ in _ALL)


def _made() -> Iterable[Variant]:
    for name, steering, mode in _ALL:
        baseline = UNPATCHED if mode == EAGER else f"{UNPATCHED}_{mode}"
        yield Variant(name, steering, mode, baseline)
        own = steering == NOTHING
        yield Variant(name + _AGAIN, steering, mode, baseline if own else name, again=True)


# By name, the second measurement of each among them.
VARIANTS = {variant.name: variant for variant in _made()}


def known(name: str) -> Variant:
    """The variant of that name; EmokernelError if it is none that can be asked for."""
    if name not in CHOICES:
        raise EmokernelError(f"unknown variant {name!r}: choose from {', '.join(CHOICES)}")
    return VARIANTS[name]


def with_baselines(names: Iterable[str]) -> list[Variant]:
    """The variants of these names, their baselines and the second measurement of those, in order.

    EmokernelError for an unknown name.
    """
    wanted: set[str] = set()
    for variant in map(known, names):
        wanted |= {variant.name, variant.baseline, variant.noise}
    return [variant for variant in VARIANTS.values() if variant.name in wanted]


def compared(first: str, second: str) -> list[Variant]:
    """``first``, the same again and ``second``, which is compared with it.

    EmokernelError for an unknown name, or the same one twice.
    """
    if known(first) == known(second):
        raise EmokernelError(
            f"--compare {first} {second} is one variant: name two (the noise of the first is"
            " measured anyway)"
        )
    names = (first, first + _AGAIN, second)
    return [replace(VARIANTS[name], baseline=first) for name in names]
