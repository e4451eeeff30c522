"""A crowd at a server that was started as an operator starts it, then thousands of short requests.

The short form of benchmarks/serving/load.py, which is what is run for minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

for package in ("fastapi", "uvicorn", "openai", "prometheus_client"):
    pytest.importorskip(package, reason="pip install 'emokernel[serve]'")
if find_spec("locust") is None:  # which, imported, would replace the sockets of this process
    pytest.skip("NOT TESTED: pip install -r requirements-dev.txt", allow_module_level=True)

SERVING = Path(__file__).parents[2] / "benchmarks" / "serving"
CLIENTS, SECONDS, TOKENS = 64, 15, 8
SHORT, WARM = 1500, 400
# Bytes a request that memory may grow; what is kept of a request by mistake is a multiple of it.
MOST_SLOPE = 2048


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """benchmarks/serving is a folder of scripts, whose modules are imported as theirs are."""
    before = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(SERVING))
    yield
    sys.path[:] = before[1]
    for name in set(sys.modules) - before[0]:
        if SERVING in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
            del sys.modules[name]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    import server_process

    folder = tmp_path_factory.mktemp("load") / "embedded"
    arguments = [*server_process.embedded_for_chats(folder), "--device", "cpu"]
    with server_process.ServerProcess(arguments, threads=1) as started:
        yield started


def left_over(counted):
    import server_process

    return {name: counted[name] for name in server_process.IDLE_AT_ZERO if counted[name]}


def test_a_crowd_with_hang_ups_and_nonsense(server):
    import crowd

    seen = crowd.crowd(server, clients=CLIENTS, seconds=SECONDS, tokens=TOKENS)
    counted = server.settled()
    assert seen.failures == [], server.log()
    assert seen.server_errors() == 0
    assert seen.told["compared"] > 50  # texts that were equal to those of a lone request
    assert seen.told["hang_ups"] > 20
    assert seen.told["malformed"] > 5
    assert left_over(counted) == {}
    assert counted["emokernel_hang_ups_total"] > 0
    assert counted["emokernel_generated_tokens_total"] > 1000


def test_short_requests_after_it_leave_nothing_behind(server):
    from short_requests import short_requests

    models = httpx.get(f"{server.url}/v1/models", headers=server.headers).json()
    before = server.metrics()["emokernel_requests_total"]
    name = models["data"][0]["id"]
    short = short_requests(server.url, server.headers, name, SHORT, memory=server.memory)
    assert short.wrong == [], server.log()
    assert short.statuses == {200: SHORT}
    counted = server.settled()
    assert left_over(counted) == {}
    assert counted["emokernel_requests_total"] - before >= SHORT
    assert short.memory.slope(WARM) < MOST_SLOPE, short.memory.samples


def test_it_ends_when_it_is_told_to(server):
    assert server.stop(within=60) in (0, -15), server.log()  # uvicorn gives the signal on
    assert "Traceback" not in server.log()
