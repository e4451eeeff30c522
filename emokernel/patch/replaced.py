"""Methods replaced on one instance, never on a class."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def forward_name(module: nn.Module) -> str:
    """The attribute that holds a module's own forward: accelerate keeps it under another name."""
    return "_old_forward" if hasattr(module, "_hf_hook") else "forward"


class ReplacedMethod:
    """A method replaced on one instance; `restore` brings back what was there.

    Pickling or deep-copying the module gives the module's own method again.
    """

    def __init__(self, module: nn.Module, name: str = "forward") -> None:
        self.module, self.name = module, name
        self.original = getattr(module, name)
        self._had_own = vars(module).get(name)

    def install(self) -> None:
        """Put this object in the place of the method."""
        vars(self.module)[self.name] = self

    def restore(self) -> None:
        """Bring back the method that was there before."""
        if self._had_own is None:
            vars(self.module).pop(self.name, None)
        else:
            vars(self.module)[self.name] = self._had_own

    def __reduce__(self) -> tuple[Callable, tuple[nn.Module, str]]:
        return getattr, (self.module, self.name)
