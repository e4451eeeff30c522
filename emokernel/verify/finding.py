"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass


class Failed(Exception):
    """A check found that a promise does not hold; the message says what was measured."""


class NotRun(Exception):
    """A check cannot be made here; the message says why."""


@dataclass(frozen=True)
class Finding:
    """``ok`` is None where a check was not run; ``detail`` has its numbers, or why not."""

    name: str
    ok: bool | None
    detail: str
    seconds: float = 0.0

    @property
    def word(self) -> str:
        """The outcome in a word or two."""
        return {True: "pass", False: "FAIL", None: "not run"}[self.ok]
