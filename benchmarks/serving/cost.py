"""What does a steered request cost beside an unsteered one, at 1, 8 and 32 clients at once?

    python benchmarks/serving/cost.py [MODEL] [--clients 1 8 32] [--rounds 20] [-- OPTIONS]

starts `emokernel serve MODEL OPTIONS` and asks it for streamed completions, one round after the
other. In a round each variant is asked once, in an order by chance, by all clients at once, with
the same prompts at temperature 0 and for the same number of tokens:

    unsteered   no emotion; twice in each round, so that what is chance can be told
    one         all clients the same emotion
    many        each client a mix of its own, so that there are as many slots in use as clients

Of every round there is the median over the clients of the time to the first token, and of the time
per token after it. Ratios are paired by round, with their 95 % interval (`emokernel.bench`). The
prompts are such as the model answers with that many tokens, and shorter than the pages of 256
tokens that continuous batching keeps for the next of their kind, so that none comes from a cache.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from emotional_traffic import COMPLETIONS, Streamed
from server_process import ServerProcess, embedded_for_chats

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from emokernel.bench.harness import append, compare_to, measure  # noqa: E402

# What prompts are made of.
_WHO = (
    "My brother", "The old man", "Our neighbour", "The doctor", "A woman in the crowd", "The boy",
    "Her mother", "The teacher", "Nobody in the village", "The man at the door", "My friend",
    "The captain",
)  # fmt: skip
_DID = (
    "came home late in the year and", "told us in the morning that", "did not say a word when",
    "opened the letter, and then", "looked at the river because", "went through the rain until",
    "had always known that", "asked me for the third time whether", "stood in the garden, where",
    "was on the way to the station when",
)  # fmt: skip
PROMPTS = tuple(f"{who} {did}" for did in _DID for who in _WHO)
VARIANTS = ("unsteered", "unsteered again", "one", "many")


class Times(NamedTuple):
    """Seconds: medians over the clients of one round."""

    first: float
    token: float


def _feeling(variant: str, client: int) -> dict[str, Any]:
    """The fields of a body: weak emotions, which are the same work and leave the texts long."""
    if variant.startswith("unsteered"):
        return {}
    if variant == "one":
        return {"emotion": "joy", "strength": 0.01}
    return {"emotion": {"joy": 0.01, "fear": 0.0001 * (client + 1)}}


class EndedError(Exception):
    """A text had fewer tokens than were asked for."""


class Asking:
    """One client, or many at once, at a running server."""

    def __init__(self, server: ServerProcess, model: str, tokens: int) -> None:
        self._model, self._tokens = model, tokens
        self._prompts: list[str] = []
        self._runner = asyncio.Runner()
        self._session = httpx.AsyncClient(
            base_url=server.url,
            headers=server.headers,
            timeout=600,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    def close(self) -> None:
        """Leave."""
        self._runner.run(self._session.aclose())
        self._runner.close()

    def choose(self, number: int) -> None:
        """Find so many prompts that every variant answers at full length."""
        for prompt in PROMPTS:
            if len(self._prompts) == number:
                return
            try:
                for variant in VARIANTS[1:]:
                    self._runner.run(self._one(variant, len(self._prompts), prompt))
            except EndedError:
                continue
            self._prompts.append(prompt)
        if len(self._prompts) < number:
            raise SystemExit(f"too few texts have {self._tokens} tokens: ask for fewer --tokens")

    def variant(self, name: str, clients: int) -> Callable[[], Times]:
        """What asks once, by all clients, and tells how long it took."""
        return lambda: self._runner.run(self._all(name, clients))

    async def _all(self, name: str, clients: int) -> Times:
        prompts = enumerate(self._prompts[:clients])
        times = await asyncio.gather(*(self._one(name, *prompt) for prompt in prompts))
        return Times(*(statistics.median(column) for column in zip(*times, strict=True)))

    async def _one(self, name: str, client: int, prompt: str) -> tuple[float, float]:
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": self._tokens,
            "temperature": 0.0,
            "stream": True,
            **_feeling(name, client),
        }
        stream, came = Streamed(COMPLETIONS), []
        began = time.perf_counter()
        async with self._session.stream("POST", COMPLETIONS, json=body) as response:
            if response.status_code != 200:
                raise RuntimeError((await response.aread()).decode()[:500])
            async for line in response.aiter_lines():
                if stream.line(line):
                    came.append(time.perf_counter())
        answer = stream.answer()
        if answer.wrong:
            raise RuntimeError(f"{name}: {answer.wrong}")
        if answer.finish != "length":
            raise EndedError(f"{name}: the text to {prompt!r} ended early")
        return came[0] - began, (came[-1] - came[0]) / (self._tokens - 1)


def compared(asking: Asking, clients: int, rounds: int) -> list[dict[str, Any]]:
    """One row a variant at so many clients at once."""
    asking.choose(clients)
    times = measure(
        {name: asking.variant(name, clients) for name in VARIANTS},
        rounds,
        warmup=2,
        clock=lambda call: call(),
    )
    rows = []
    for name in VARIANTS:
        row: dict[str, Any] = {"clients": clients, "variant": name, "rounds": rounds}
        for what in Times._fields:
            values = [getattr(each, what) for each in times[name]]
            base = [getattr(each, what) for each in times["unsteered"]]
            again = [getattr(each, what) for each in times["unsteered again"]]
            ratio, noise = compare_to(base, values), compare_to(base, again)
            row[f"{what}_ms"] = 1e3 * statistics.median(values)
            row[f"{what}_ms_of_rounds"] = [round(1e3 * value, 3) for value in values]
            row[f"{what}_ratio"] = ratio.ratio
            row[f"{what}_ratio_95"] = [ratio.low, ratio.high]
            row[f"{what}_told"] = ratio.in_words(None if name.startswith("unsteered") else noise)
        rows.append(row)
    return rows


def measured(
    server: ServerProcess, options: argparse.Namespace, passed_on: list[str]
) -> list[dict[str, Any]]:
    """The rows of all numbers of clients, each printed as soon as it is there."""
    rows = []
    models = httpx.get(f"{server.url}/v1/models", headers=server.headers).json()
    about = {"model": options.model, "options": passed_on, "tokens": options.tokens}
    asking = Asking(server, models["data"][0]["id"], options.tokens)
    try:
        for clients in options.clients:
            for row in compared(asking, clients, options.rounds):
                rows.append(about | row)
                print(
                    f"{clients:3} clients  {row['variant']:<16}"
                    f"  first {row['first_ms']:8.1f} ms  {row['first_told']:<44}"
                    f"  token {row['token_ms']:7.2f} ms  {row['token_told']}",
                    flush=True,
                )
    finally:
        asking.close()
    return rows


def main() -> None:
    """Measure every number of clients, print and record it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="embedded")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=32, help="of each text (32)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    given = sys.argv[1:]
    at = given.index("--") if "--" in given else len(given)
    options, passed_on = parser.parse_args(given[:at]), given[at + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        served = [options.model]
        if options.model == "embedded":  # whose texts are short
            served = embedded_for_chats(Path(folder) / "embedded", endless=True)
        with ServerProcess([*served, *passed_on]) as server:
            rows = measured(server, options, passed_on)
    print(f"appended to {append(options.output, 'serving-cost', rows)}")


if __name__ == "__main__":
    main()
