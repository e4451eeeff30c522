"""Methods replaced on one instance, never on a class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from emokernel.errors import SteeringError


def forward_name(module: nn.Module) -> str:
    """The attribute that holds a module's own forward: accelerate keeps it under another name."""
    return "_old_forward" if hasattr(module, "_hf_hook") else "forward"


def is_replaced(module: nn.Module) -> bool:
    """Whether something gave this one module another forward than its class's."""
    own = vars(module).get(forward_name(module))
    while isinstance(own, _PassedOn):  # put back by what had wrapped it, which was removed later
        own = own.original
    # A deep copy of a patched model holds its class's own method as an attribute.
    return own is not None and getattr(own, "__func__", None) is not type(module).forward


class ReplacedMethod:
    """A method replaced on one instance; `restore` brings back what was there.

    Pickling or deep-copying the module gives the module's own method again.
    """

    def __init__(self, module: nn.Module, name: str = "forward") -> None:
        self.module, self.name = module, name
        self.original = getattr(module, name)
        self._had_own = vars(module).get(name)
        self._class, self._of_class = type(module), getattr(type(module), "forward", None)

    def check_class(self) -> None:
        """SteeringError if the class has another forward now, which this object would hide.

        That the module had when it was patched: FSDP derives one from it.
        """
        if self._class.forward is not self._of_class:
            raise SteeringError(
                f"something else replaced the forward of {self._class.__name__} in its class after"
                " the model was patched: unpatch() and patch again"
            )

    def install(self) -> None:
        """Put this object in the place of the method."""
        vars(self.module)[self.name] = self

    def restore(self) -> None:
        """Bring back the method that was there before, wherever this object is by now.

        Accelerate moves a forward when it adds or removes its hooks. Where something else wraps it,
        that stays, and is given the method that was there before.
        """
        attributes = vars(self.module)
        places = [name for name, value in attributes.items() if value is self]
        for name in places:
            if name == self.name and self._had_own is None:
                del attributes[name]
            else:
                attributes[name] = self.original
        if not places:
            self.__class__ = _PassedOn  # pyright: ignore[reportAttributeAccessIssue]

    def __reduce__(self) -> tuple[Callable, tuple[nn.Module, str]]:
        return getattr, (self.module, self.name)


def has_replaced(module: nn.Module) -> bool:
    """Whether methods of a module are replaced by emokernel's, which other tools may wrap."""
    return any(isinstance(value, ReplacedMethod) for value in vars(module).values())


def one_of_each_class(methods: Iterable[ReplacedMethod]) -> list[ReplacedMethod]:
    """Those of ``methods``, just made, whose `check_class` speaks for all of them."""
    return list({type(method.module): method for method in methods}.values())


class _PassedOn:
    """A `ReplacedMethod` that was restored while something else, which wraps it, still calls it.

    No `ReplacedMethod` any more: a module that is given it back is not patched.
    """

    module: nn.Module
    name: str
    original: Callable

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.original(*args, **kwargs)

    __reduce__ = ReplacedMethod.__reduce__


class Around(ReplacedMethod):
    """A method of one object, around which something else is done."""

    def __init__(self, owner: Any, name: str, around: Callable[..., object]) -> None:
        """``around(original, *args, **kwargs)`` is called in the place of the method."""
        super().__init__(owner, name)
        self._around = around

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._around(self.original, *args, **kwargs)
