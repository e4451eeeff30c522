"""Written in C++: csrc/binding/direct.cpp."""

from collections.abc import Callable

def direct(name: str, general: Callable, /) -> Callable: ...
