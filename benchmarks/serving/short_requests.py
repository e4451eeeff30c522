"""Thousands of short requests at a server, by some clients at a time, and its memory meanwhile."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from emotional_traffic import COMPLETIONS, FEELINGS, PROMPTS, whole


@dataclass
class Memory:
    """Bytes that a process held, by how many requests were answered then."""

    samples: list[tuple[int, int]] = field(default_factory=list)

    def after(self, answered: int) -> list[tuple[int, int]]:
        """The samples from so many answered requests on."""
        return [each for each in self.samples if each[0] >= answered]

    def slope(self, warm: int) -> float:
        """Bytes more per request, by least squares, from ``warm`` answered requests on."""
        numbers, sizes = zip(*self.after(warm), strict=True)
        return statistics.linear_regression(numbers, sizes).slope

    def growth(self, warm: int) -> int:
        """Bytes between the medians of the first and the last quarter after ``warm``."""
        sizes = [size for _, size in self.after(warm)]
        part = max(1, len(sizes) // 4)
        return int(statistics.median(sizes[-part:]) - statistics.median(sizes[:part]))


@dataclass
class Short:
    """What came of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Requests."""
        return sum(self.statuses.values()) / self.seconds


def _body(number: int, chance: random.Random) -> dict[str, Any]:
    """Half of them of the common feelings, half of mixes that nobody has asked for before."""
    feeling = dict(FEELINGS[number % len(FEELINGS)])
    if number % 2:
        mix = {name: round(chance.uniform(-0.5, 0.5), 6) for name in ("joy", "fear", "sadness")}
        feeling = {"emotion": mix}
    return {
        "prompt": chance.choice(PROMPTS),
        "max_tokens": chance.randint(1, 4),
        "temperature": chance.choice((0.0, 0.8)),
        **feeling,
    }


def short_requests(
    url: str,
    headers: dict[str, str],
    model: str,
    number: int,
    *,
    memory: Callable[[], int],
    clients: int = 32,
    seed: int = 0,
) -> Short:
    """Ask ``number`` of them, ``clients`` at a time; ``memory``: bytes of the server now."""
    return asyncio.run(_all(url, headers, model, number, memory, clients, seed))


async def _all(
    url: str,
    headers: dict[str, str],
    model: str,
    number: int,
    memory: Callable[[], int],
    clients: int,
    seed: int,
) -> Short:
    found, chance, numbers = Short(), random.Random(seed), iter(range(number))
    every = max(1, number // 200)
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)

    async def client(session: httpx.AsyncClient) -> None:
        for each in numbers:
            response = await session.post(COMPLETIONS, json={"model": model, **_body(each, chance)})
            found.statuses[response.status_code] += 1
            wrong = "" if response.status_code == 200 else response.text[:300]
            wrong = wrong or whole(COMPLETIONS, response.content).wrong
            if wrong:
                found.wrong.append(wrong)
            answered = sum(found.statuses.values())
            if answered % every == 0:
                found.memory.samples.append((answered, memory()))

    began = time.perf_counter()
    async with httpx.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=120
    ) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    found.seconds = time.perf_counter() - began
    return found
