"""What other tools have done to a patched model since, looked up in every call.

They may take a steered block out of the model, or give it another forward. And they may stand
between an add and the norm that it computes ahead: that norm is of the rows as the add returned
them, and whoever is called on their way could write to them in place, which torch does not count in
inference mode or where memory is written to past it. So only emokernel's and the model's own
forwards may stand there.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import getitem, is_
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_modules

from emokernel.errors import SteeringError
from emokernel.patch.decoder import Decoder
from emokernel.replaced import ReplacedMethod, is_replaced
from emokernel.state import DeviceState

# Their hooks only record outputs; those of transformers stay on a model for good once it was asked
# for its hidden states.
_RECORDING = ("transformers.utils.output_capturing", "emokernel.patch.decoder")
# Its own hooks move rows between devices, into other memory.
_ACCELERATE = "accelerate.hooks"
_GLOBAL_HOOKS = {
    "_global_forward_pre_hooks": "a global forward pre-hook",
    "_global_forward_hooks": "a global forward hook",
}

# Attributes of a module, and the name of one that has to stay as it is.
_Held = tuple[Any, str]


@dataclass(frozen=True)
class Step:
    """A module whose call began, or ended (``left``), in a run of the model."""

    module: nn.Module
    left: bool

    @property
    def hooks(self) -> str:
        """The attribute with the hooks that are called then: some tools give modules new ones."""
        return "_forward_hooks" if self.left else "_forward_pre_hooks"


class Way:
    """The way of rows from an add to a norm, and whether anything foreign stands in it."""

    def __init__(
        self, steps: Sequence[Step], root: nn.Module, names: Mapping[nn.Module, str]
    ) -> None:
        """``steps`` as they were seen, the last is into the norm; ``names`` in ``root``."""
        self.steps = dict.fromkeys(steps)
        self.forwards = {step.module: type(step.module).forward for step in steps}
        # (holder, name in it) of every module on the way from the root to those of the steps.
        self.places = {
            (holder, part): holder._modules[part]
            for module in self.forwards
            for holder, part in _way_to(root, names[module])
        }
        # A module that is put in behind the others changes no place of a list.
        self._lists = {h: len(h) for h, _ in self.places if isinstance(h, nn.ModuleList)}
        self._obstacle: str | None = "it was not looked up yet"
        self._hooks: tuple[Mapping[int, object], ...] = ()

    def is_clear(self) -> bool:
        """Whether no module stood there when it was last looked up, and no hook stands there now.

        Hooks may be registered while the model runs.
        """
        if self._obstacle is not None:
            return False
        return not any(self._hooks) or not any(map(_may_change, self._hooks))

    def look_again(self) -> None:
        """Look up what `is_clear` is to say."""
        own = (vars(step.module)[step.hooks] for step in self.steps)
        self._hooks = (*(vars(torch_modules)[name] for name in _GLOBAL_HOOKS), *own)
        self._obstacle = self.look_at_modules()

    def look(self) -> str | None:
        """The first foreign thing that stands there now, in a few words; None if nothing does."""
        return self.look_at_modules() or self.look_at_hooks()

    def look_at_modules(self) -> str | None:
        """The same of modules and their forwards, which stay as they are while the model runs."""
        for (holder, part), module in self.places.items():
            if holder._modules.get(part) is not module:
                return f"{type(module).__name__} was replaced"
        if any(len(holder) != count for holder, count in self._lists.items()):
            return "other modules were put in beside those that were there, or some taken out"
        for module, forward in self.forwards.items():
            if type(module).forward is not forward or _is_foreign(module):
                return f"something else replaced the forward of {type(module).__name__}"
        return None

    def look_at_hooks(self) -> str | None:
        """The same of hooks."""
        for name, told in _GLOBAL_HOOKS.items():
            if _may_change(vars(torch_modules)[name]):
                return f"{told} may change the rows"
        for step in self.steps:
            if _may_change(vars(step.module)[step.hooks]):
                kind = "forward hook" if step.left else "forward pre-hook"
                return f"a {kind} of {type(step.module).__name__} may change the rows"
        return None


class Surroundings:
    """The steered blocks of a decoder and the ways of the norms that are computed ahead."""

    def __init__(self, decoder: Decoder, layers: Iterable[int]) -> None:
        self._owner = decoder.owner
        self._blocks = {layer: decoder.blocks[layer] for layer in layers}
        # What steers each layer, in the place of methods.
        self.methods: dict[int, list[ReplacedMethod]] = {layer: [] for layer in self._blocks}
        self.ways: list[Way] = []
        self._seen: _Seen | None = None
        self._warned = False

    def check(self) -> None:
        """SteeringError for a block that is gone: its layer would not be steered."""
        if self._seen is None or not self._seen.stands():
            self.look()

    def look(self) -> None:
        """As `check`, whatever has changed; the ways are looked up again."""
        parts = list(self._owner.modules())
        there = set(parts)
        gone = [layer for layer, block in self._blocks.items() if block not in there]
        if gone:
            kind = type(self._blocks[gone[0]]).__name__
            raise SteeringError(
                f"block {gone[0]} ({kind}) is no longer a part of {type(self._owner).__name__}:"
                " something took it out or replaced it after the model was patched, and its layer"
                " would not be steered: unpatch() and patch again"
            )
        blocks = set(self._blocks.values())
        around = {part for part in parts if part not in blocks and blocks & set(part.modules())}
        seen = _Seen(around, self.ways)
        for way in self.ways:  # only now: what changes meanwhile has changed since
            way.look_again()
        self._seen = seen

    @property
    def layers(self) -> int:
        """How many are steered."""
        return len(self._blocks)

    def check_ran(self, states: Sequence[DeviceState]) -> None:
        """A warning, once, for a block that was not run by the forward that steers it.

        The ``states`` know which layers were steered. Models may leave out their last blocks.
        """
        ran = set[int]().union(*(state.running.steered | state.traced for state in states))
        if len(ran) < self.layers and not self._warned:
            last = max(ran, default=-1)
            lost = [
                layer
                for layer in self._blocks
                if layer not in ran and (layer < last or not self._in_place(layer))
            ]
            if lost:
                self._warned = True
                warnings.warn(
                    f"the layers {lost} were not steered: their blocks were left out, or something"
                    " gave them another forward after the model was patched, or runs others in"
                    " their place (if so, unpatch(), let it do so, and patch then)",
                    stacklevel=2,
                )

    def _in_place(self, layer: int) -> bool:
        return all(method in vars(method.module).values() for method in self.methods[layer])


class _Seen:
    """What was looked up. That it stands is asked in every call, so it is done by loops in C."""

    def __init__(self, around: Iterable[nn.Module], ways: Iterable[Way]) -> None:
        """``around``: the modules that hold blocks, somewhere within them."""
        owns: list[_Held] = [(vars(module), "_modules") for module in around]
        hooks: list[_Held] = [(vars(torch_modules), name) for name in _GLOBAL_HOOKS]
        modules: dict[nn.Module, None] = {}
        for way in ways:
            owns += [(vars(holder), "_modules") for holder, _ in way.places]
            hooks += [(vars(step.module), step.hooks) for step in way.steps]
            modules |= dict.fromkeys(way.forwards)
        for own in map(vars, modules):
            # Who adds or removes hooks of accelerate's gives the module another forward as well.
            names = ("forward", "_hf_hook", "_old_forward") if "_hf_hook" in own else ("forward",)
            owns += [(own, name) for name in names]
        self._attributes = _once(owns)
        self._values = [
            dict(value) if isinstance(value, dict) else value
            for value in map(dict.get, *self._attributes)
        ]
        # Their dictionaries: what is in them each `Way` asks by itself.
        self._of_hooks = _once(hooks)
        self._hooks = list(map(getitem, *self._of_hooks))
        self._modules = list(modules)
        self._classes = list(map(type, self._modules))
        self._forwards = [(kind, kind.forward) for kind in set(self._classes)]

    def stands(self) -> bool:
        """Whether all of it is as it was."""
        return (
            list(map(dict.get, *self._attributes)) == self._values
            and all(map(is_, map(getitem, *self._of_hooks), self._hooks))
            and list(map(type, self._modules)) == self._classes
            and all([kind.forward is forward for kind, forward in self._forwards])
        )


def _once(held: list[_Held]) -> tuple[list[Any], list[str]]:
    """(Whose attribute, its name), each once."""
    each = {(id(own), name): (own, name) for own, name in held}.values()
    return [own for own, _ in each], [name for _, name in each]


def _may_change(hooks: Mapping[int, object]) -> bool:
    return any(getattr(hook, "__module__", None) not in _RECORDING for hook in hooks.values())


def _way_to(root: nn.Module, name: str) -> Iterator[tuple[nn.Module, str]]:
    """(Holder, name in it) of every module on the way from ``root`` to the module of that name."""
    holder = root
    for part in name.split(".") if name else ():
        yield holder, part
        inner = holder._modules[part]
        assert inner is not None  # it has a name there
        holder = inner


def _is_foreign(module: nn.Module) -> bool:
    """Whether another forward than the model's, emokernel's and accelerate's would run."""
    own = vars(module)
    ours = "forward"
    if "_hf_hook" in own:
        outer, ours = own.get("forward"), "_old_forward"
        wraps = isinstance(outer, functools.partial) and outer.func.__module__ == _ACCELERATE
        hooks = getattr(own["_hf_hook"], "hooks", (own["_hf_hook"],))
        if not wraps or any(type(hook).__module__ != _ACCELERATE for hook in hooks):
            return True
    return is_replaced(module) and not isinstance(own.get(ours), ReplacedMethod)
