"""Ending a block: every step is taken, and what went wrong in the block itself is what is told."""

from __future__ import annotations

from collections.abc import Callable


def finish(error: BaseException | None, *steps: Callable[[], object]) -> None:
    """Take all ``steps``, whatever goes wrong in one of them.

    ``error``: what has ended the block, if anything has. Only if nothing has is the first problem
    of the steps raised; the others stand in the chain of contexts behind it, or behind ``error``.
    """
    first = error
    for step in steps:
        try:
            step()
        except BaseException as problem:
            if first is None:
                first = problem
            else:
                _add_context(first, problem)
    if first is not error:
        raise first


def _add_context(error: BaseException, later: BaseException) -> None:
    """Put ``later`` at the end of what a traceback of ``error`` tells first."""
    chain = [error]
    while (further := chain[-1].__cause__ or chain[-1].__context__) is not None:
        if further in chain or further is later:
            return
        chain.append(further)
    # It was raised while the error was on its way: that is not told twice.
    link: BaseException | None = later
    while link is not None:
        if link.__context__ in chain:
            link.__context__ = None
        link = link.__context__
    chain[-1].__context__ = later
