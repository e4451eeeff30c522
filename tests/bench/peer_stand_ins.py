"""Drivers of benchmarks/peers for its tests: some that lie, and some that need no torch."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from protocol import Cannot, Driver, Mix


class Counting(Driver):
    """Runs nothing: a steered token takes 2 s, any other 1 s. Prints where it can."""

    versions = lambda self: {"torch": "0", "peer_stand_ins": "1.0"}  # noqa: E731
    steered_seconds = 2.0

    def __init__(self) -> None:
        print("a peer that greets")
        os.write(1, b"in C as well\n")

    def open(self, **request: Any) -> None:
        print(sys.stdin.read() + "and reads")

    def ask(self, rows: list[Mix | None]) -> None:
        print("asked", rows)

    def logits(self, how: str, prompts: list[list[int]], file: str) -> None:
        raise Cannot("no logits")

    def decode(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
        seconds = self.steered_seconds if how == "steered" else 1.0
        return {"first": seconds, "steps": [seconds] * (new_tokens - 1)}


class OneMix(Counting):
    """One vector for all."""

    def ask(self, rows: list[Mix | None]) -> None:
        if any(row != rows[0] for row in rows):
            raise Cannot("one vector for the whole batch")


class Dying(Counting):
    """Is gone in the second round that counts: each has two generations before the timed three."""

    made = 0

    def decode(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
        self.made += 1
        if self.made == 13:
            print("out of memory, or so")
            os._exit(3)
        return super().decode(how, prompts, new_tokens)


class Silent(Counting):
    """Never answers."""

    def ask(self, rows: list[Mix | None]) -> None:
        time.sleep(60)
