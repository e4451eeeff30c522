"""Many clients at once with mixed emotions, of whom some hang up and some send nonsense.

    EMOKERNEL_API_KEY=KEY locust -f benchmarks/serving/locustfile.py --headless -u 64 -t 180 \\
        --host http://127.0.0.1:8000 --told told.json

Before the clients begin, every request at temperature 0 is asked alone; afterwards each answer to
one of them has to be that text. Every answer is checked. `--told` is a file for what was counted;
the exit status is 1 if anything was not as it should be.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from typing import Any

import requests
from emotional_traffic import ENDPOINTS, Streamed, any_ask, lone, malformed, whole
from locust import HttpUser, between, events, task

_PATIENCE = (10, 120)  # seconds to connect, and between two pieces of an answer
_TOLD = 20  # of what was wrong, so much is told


class Seen:
    """What all clients have seen so far."""

    def __init__(self) -> None:
        self.model = ""
        self.endpoints: tuple[str, ...] = ENDPOINTS
        self.alone: dict[tuple[str, int, int], str] = {}
        self.statuses: Counter[str] = Counter()
        self.hang_ups = self.compared = self.malformed = 0
        self.wrong: list[str] = []
        self.wrong_count = 0
        self.seconds: dict[str, list[float]] = {
            f"{what}_{who}": [] for what in ("first", "next") for who in ("steered", "unsteered")
        }

    def found_wrong(self, what: str) -> None:
        """Remember ``what`` should not have been."""
        self.wrong_count += 1
        if len(self.wrong) < _TOLD:
            self.wrong.append(what[:600])


SEEN = Seen()
_CHANCE = random.Random(0)


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    parser.add_argument("--tokens", type=int, default=16, help="tokens of each text")
    parser.add_argument("--hang-ups", type=float, default=0.2, help="share of clients that leave")
    parser.add_argument("--malformed", type=float, default=0.05, help="share of wrong bodies")
    parser.add_argument("--told", default="", help="file for what was seen")


def _headers() -> dict[str, str]:
    key = os.environ.get("EMOKERNEL_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


@events.test_start.add_listener
def _ask_alone(environment: Any, **_: Any) -> None:
    """Every request at temperature 0 by itself: what the same one has to give in a crowd."""
    host, options = environment.host, environment.parsed_options
    with requests.Session() as session:
        session.headers.update(_headers())
        SEEN.model = session.get(f"{host}/v1/models", timeout=_PATIENCE).json()["data"][0]["id"]
        for each in lone(options.tokens):
            body = {"model": SEEN.model, **each.body}
            response = session.post(host + each.path, json=body, timeout=_PATIENCE)
            answer = whole(each.path, response.content)
            if response.status_code != 200 or answer.wrong:
                raise SystemExit(f"{each.path} alone: {response.status_code} {response.text[:500]}")
            SEEN.alone[each.key] = answer.text


@events.quitting.add_listener
def _tell(environment: Any, **_: Any) -> None:
    told = {
        "statuses": dict(SEEN.statuses),
        "compared": SEEN.compared,
        "hang_ups": SEEN.hang_ups,
        "malformed": SEEN.malformed,
        "wrong_count": SEEN.wrong_count,
        "wrong": SEEN.wrong,
        "seconds": SEEN.seconds,
        "requests": environment.stats.total.num_requests,
        "requests_per_second": environment.stats.total.total_rps,
    }
    if environment.parsed_options.told:
        with open(environment.parsed_options.told, "w") as file:
            json.dump(told, file)
    environment.process_exit_code = 1 if SEEN.wrong_count else 0


class Client(HttpUser):
    """Somebody who asks again and again."""

    wait_time = between(0.0, 0.1)

    def on_start(self) -> None:
        """Say who asks."""
        self.client.headers.update(_headers())

    @task
    def once(self) -> None:
        """One request of any kind."""
        options, kind = self.environment.parsed_options, _CHANCE.random()
        if kind < options.malformed:
            self._malformed()
        else:
            self._ask(leaves=kind < options.malformed + options.hang_ups)

    def _malformed(self) -> None:
        path, content, statuses = malformed(_CHANCE)
        headers = {"Content-Type": "application/json"}
        name = f"{path} malformed"
        with self.client.post(
            path, data=content, headers=headers, name=name, timeout=_PATIENCE, catch_response=True
        ) as response:
            SEEN.malformed += 1
            SEEN.statuses[f"malformed {response.status_code}"] += 1
            if response.status_code in statuses and self._says_why(response):
                response.success()
            else:
                self._wrong(response, f"{content[:100]!r} to {path}: {response.status_code}"
                            f" {(response.text or '')[:200]}")  # fmt: skip

    @staticmethod
    def _says_why(response: Any) -> bool:
        try:
            told = response.json()
            return bool(told["detail"]) and told["error"]["message"] == told["detail"]
        except (ValueError, KeyError, TypeError):
            return False

    def _ask(self, leaves: bool) -> None:
        asked = any_ask(_CHANCE, self.environment.parsed_options.tokens, SEEN.endpoints)
        kind = " streamed" if asked.is_streamed else ""
        who = "steered" if asked.is_steered else "unsteered"
        patience = _PATIENCE
        if leaves and not asked.is_streamed:
            patience = (_PATIENCE[0], _CHANCE.uniform(0.01, 0.3))
        began = time.perf_counter()
        with self.client.post(
            asked.path,
            json={"model": SEEN.model, **asked.body},
            name=f"{asked.path}{kind}",
            stream=asked.is_streamed,
            timeout=patience,
            catch_response=True,
        ) as response:
            if leaves and response.status_code == 0:  # it had not come yet
                SEEN.hang_ups += 1
                response.success()
                return
            SEEN.statuses[str(response.status_code)] += 1
            if response.status_code != 200:
                self._wrong(response, f"{asked.body} to {asked.path}: {response.status_code}"
                            f" {(response.text or '')[:200]}")  # fmt: skip
                return
            if asked.is_streamed:
                most = _CHANCE.randint(1, 4) if leaves else None
                answer = self._read(response, asked.path, who, began, most)
                if answer is None:
                    SEEN.hang_ups += 1
                    response.success()
                    return
            else:
                answer = whole(asked.path, response.content)
            if answer.wrong:
                self._wrong(response, f"{asked.body} to {asked.path}: {answer.wrong}")
                return
            if asked.key is not None:
                SEEN.compared += 1
                alone = SEEN.alone[asked.key]
                if answer.text != alone:
                    self._wrong(
                        response, f"{asked.key}: {answer.text!r}, but {alone!r} to a lone request"
                    )
                    return
            response.success()

    @staticmethod
    def _read(response: Any, path: str, who: str, began: float, most: int | None) -> Any:
        """The answer; None where the client leaves, after ``most`` pieces."""
        stream, pieces, last = Streamed(path), 0, began
        for line in response.iter_lines(chunk_size=None):
            if not stream.line(line.decode()):
                continue
            now = time.perf_counter()
            SEEN.seconds[f"{'next' if pieces else 'first'}_{who}"].append(now - last)
            pieces, last = pieces + 1, now
            if pieces == most:
                response.close()
                return None
        return stream.answer()

    @staticmethod
    def _wrong(response: Any, what: str) -> None:
        SEEN.found_wrong(what)
        response.failure(what)
