"""What stands between an add and the norm that it computes ahead.

The norm is of the rows as the add returned them. Whoever is called on their way to it could write
to them in place, which torch does not count in inference mode or where memory is written to past
it. So only emokernel's and the model's own forwards may stand there, and that is looked up whenever
the add runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from emokernel.replaced import ReplacedMethod, is_replaced

# Its hooks only record outputs; they stay on a model for good once it was asked for its hidden
# states.
_RECORDING = "transformers.utils.output_capturing"
# Its own hooks move rows between devices, into other memory.
_ACCELERATE = "accelerate.hooks"


@dataclass(frozen=True)
class Step:
    """A module whose call began, or ended (``left``), on the way."""

    module: nn.Module
    left: bool


class Between:
    """The way of rows from an add to a norm, and whether anything foreign stands there."""

    def __init__(
        self, steps: Sequence[Step], root: nn.Module, names: Mapping[nn.Module, str]
    ) -> None:
        """``steps`` as they were seen, the last is into the norm; ``names`` in ``root``."""
        modules = list(dict.fromkeys(step.module for step in steps))
        self._classes = [(module, type(module).forward) for module in modules]
        # (attributes of a module, the name of its hooks among them): some tools give it new ones.
        self._calls = list(
            dict.fromkeys(
                (step.module, "_forward_hooks" if step.left else "_forward_pre_hooks")
                for step in steps
            )
        )
        self._any_hooks: tuple[Mapping[int, Callable], ...] = ()
        self._places = list(
            {
                (id(holder), part): (holder._modules, part, holder._modules[part])
                for module in modules
                for holder, part in _way_to(root, names[module])
            }.values()
        )
        # A module that is put in behind the others changes no place of a list.
        lists = {
            id(holder): holder._modules
            for module in modules
            for holder, _ in _way_to(root, names[module])
            if isinstance(holder, nn.ModuleList)
        }
        self._counts = [(children, len(children)) for children in lists.values()]
        # (attributes of a module, a name among them, what was found there and is known to be
        # harmless)
        self._known: list[tuple[Mapping[str, Any], str, Any]] | None = None

    def is_clear(self) -> bool:
        """Whether nothing foreign stands there now."""
        known = self._known
        if known is None or (any(self._any_hooks) and self._hook() is not None):
            return self._look()
        for attributes, name, value in known:
            if attributes.get(name) is not value:
                return self._look()
        if any([len(children) != count for children, count in self._counts]):
            return self._look()
        return all([type(module).forward is forward for module, forward in self._classes])

    def _look(self) -> bool:
        hooks = [(vars(module), name, vars(module)[name]) for module, name in self._calls]
        forwards = [
            (vars(module), name, vars(module).get(name))
            for module, _ in self._classes
            for name in ("forward", "_hf_hook", "_old_forward")
            if name == "forward" or name in vars(module)
        ]
        if self.obstacle() is not None:  # asked only now: what changes meanwhile is not known
            return False
        own = (held for *_, held in hooks)
        self._any_hooks = (_global_forward_pre_hooks, _global_forward_hooks, *own)
        self._known = [*self._places, *hooks, *forwards]
        return True

    def obstacle(self) -> str | None:
        """The first foreign thing that stands there now, in a few words; None if nothing does."""
        for children, part, module in self._places:
            if children.get(part) is not module:
                return f"{type(module).__name__} was replaced"
        for children, count in self._counts:
            if len(children) != count:
                return "other modules were put in beside those that were there"
        for module, forward in self._classes:
            if type(module).forward is not forward or is_foreign(module):
                return f"something else replaced the forward of {type(module).__name__}"
        hook = self._hook()
        return None if hook is None else f"{hook} may change the rows"

    def _hook(self) -> str | None:
        if _may_change(_global_forward_pre_hooks):
            return "a global forward pre-hook"
        if _may_change(_global_forward_hooks):
            return "a global forward hook"
        for module, name in self._calls:
            if _may_change(vars(module)[name]):
                kind = "forward hook" if name == "_forward_hooks" else "forward pre-hook"
                return f"a {kind} of {type(module).__name__}"
        return None


def _may_change(hooks: Mapping[int, Callable]) -> bool:
    return any(hook.__module__ != _RECORDING for hook in hooks.values())


def _way_to(root: nn.Module, name: str) -> list[tuple[nn.Module, str]]:
    """(Holder, name in it) of every module on the way from ``root`` to the module of that name."""
    way, holder = [], root
    for part in name.split(".") if name else ():
        way.append((holder, part))
        holder = holder._modules[part]
    return way


def is_foreign(module: nn.Module) -> bool:
    """Whether another forward than the model's, emokernel's and accelerate's would run."""
    own = vars(module)
    if "_hf_hook" in own:
        outer = own.get("forward")
        wraps = isinstance(outer, functools.partial) and outer.func.__module__ == _ACCELERATE
        hooks = getattr(own["_hf_hook"], "hooks", (own["_hf_hook"],))
        if not wraps or any(type(hook).__module__ != _ACCELERATE for hook in hooks):
            return True
        return is_replaced(module) and not isinstance(own.get("_old_forward"), ReplacedMethod)
    return is_replaced(module) and not isinstance(own.get("forward"), ReplacedMethod)
