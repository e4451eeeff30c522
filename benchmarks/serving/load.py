"""Does a server stand a crowd, and thousands of short requests after it?

    python benchmarks/serving/load.py [MODEL] [--seconds 180] [--short 5000] [-- OPTIONS]

starts `emokernel serve MODEL OPTIONS` as an operator would, then

1. `--clients` at a time, by locust, for `--seconds`: mixed emotions over chats, completions and
   responses, streamed and not, at temperature 0 and 0.8; one in five leaves in the midst, one body
   in twenty is wrong. Each answer is checked; at temperature 0 it has to be the text that a lone
   request got.
2. `--short` requests of one to four tokens, half of them for a mix that nobody has asked for yet.

After each, nothing may run, wait or hold a slot, and the memory must not have grown. MODEL is
"embedded" unless given, with a chat template of one word after the other. What was seen is appended
to `benchmarks/results`; the exit status is 1 if anything was not as it should be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from crowd import crowd
from server_process import IDLE_AT_ZERO, ServerProcess, embedded_for_chats
from short_requests import Short, short_requests

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from emokernel.bench.harness import append  # noqa: E402

_WARM = 0.25  # of the short requests, before memory is judged
_MOST_SLOPE = 512  # bytes a request that memory may grow, beyond which thousands would be felt


def _left_over(counted: dict[str, float]) -> list[str]:
    """What still runs, waits or holds a slot though nobody asks any more."""
    return [f"{name} is {counted[name]:g}" for name in IDLE_AT_ZERO if counted[name]]


def _judged(short: Short, number: int) -> list[str]:
    """What was wrong with the short requests."""
    slope = short.memory.slope(int(_WARM * number))
    grown = [f"memory grows by {slope:.0f} bytes a request"] if slope > _MOST_SLOPE else []
    return short.wrong[:20] + grown


def _crowd(server: ServerProcess, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    before, held = server.metrics(), server.memory()
    seen = crowd(
        server, clients=options.clients, seconds=options.seconds, tokens=options.tokens, show=True
    )
    counted = server.settled()
    tokens = "emokernel_generated_tokens_total"
    row = {
        "phase": "crowd",
        "clients": options.clients,
        "seconds": options.seconds,
        "tokens": options.tokens,
        **seen.row(),
        "tokens_per_second": (counted[tokens] - before[tokens]) / options.seconds,
        "memory_before": held,
        "memory_after": server.memory(),
    }
    return row, seen.failures + _left_over(counted)


def _short(server: ServerProcess, model: str, number: int) -> tuple[dict[str, Any], list[str]]:
    short = short_requests(server.url, server.headers, model, number, memory=server.memory)
    warm = int(_WARM * number)
    row = {
        "phase": "short",
        "requests": number,
        "statuses": {str(status): count for status, count in short.statuses.items()},
        "requests_per_second": short.per_second,
        "memory_after_warming": short.memory.after(warm)[0][1],
        "memory_after": short.memory.samples[-1][1],
        "memory_growth": short.memory.growth(warm),
        "memory_bytes_per_request": short.memory.slope(warm),
    }
    return row, _judged(short, number) + _left_over(server.settled())


def main() -> int:
    """Measure, print and record it; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="embedded")
    parser.add_argument("--seconds", type=int, default=180, help="of the crowd (180)")
    parser.add_argument("--clients", type=int, default=64, help="at a time (64)")
    parser.add_argument("--tokens", type=int, default=16, help="of each text of the crowd (16)")
    parser.add_argument("--short", type=int, default=5000, help="short requests (5000)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    given = sys.argv[1:]
    at = given.index("--") if "--" in given else len(given)
    options, passed_on = parser.parse_args(given[:at]), given[at + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        served = [options.model]
        if options.model == "embedded":
            served = embedded_for_chats(Path(folder) / "embedded")
        with ServerProcess([*served, *passed_on]) as server:
            print(f"ready after {server.ready_after:.1f} s", flush=True)
            models = httpx.get(f"{server.url}/v1/models", headers=server.headers).json()
            found = [_crowd(server, options)]
            found.append(_short(server, models["data"][0]["id"], options.short))
            status, ready = server.stop(), server.ready_after
    about = {"model": options.model, "options": passed_on, "ready_after_s": ready}
    for row, wrong in found:
        row |= {**about, "exit_status": status, "wrong_told": wrong}
        print("\n".join(f"{name}: {value}" for name, value in row.items()), end="\n\n")
    print(f"appended to {append(options.output, 'serving-load', [row for row, _ in found])}")
    return 1 if any(wrong for _, wrong in found) else 0


if __name__ == "__main__":
    sys.exit(main())
