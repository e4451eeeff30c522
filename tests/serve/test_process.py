"""The command as a person or a supervisor starts, asks, floods and ends it."""

from __future__ import annotations

import importlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("fastapi", reason="pip install 'emokernel[serve]'")
pytest.importorskip("prometheus_client", reason="pip install 'emokernel[serve]'")
httpx = pytest.importorskip("httpx", reason="pip install -r requirements-dev.txt")
pytest.importorskip("psutil", reason="pip install -r requirements-dev.txt")
processes = importlib.import_module("serving.server_process")


EMBEDDED = ["embedded"]
PATH = "/v1/completions"
LONG = {"prompt": "They told us that", "max_tokens": 200, "temperature": 1.5, "seed": 3}


@pytest.fixture
def running(tmp_path):
    """Start servers, which end with the test; ``endless`` ones write on up to the last token."""
    started = []

    def start(*options, key=None, endless=False):
        model = EMBEDDED
        if endless:
            model = processes.embedded_for_chats(tmp_path / "endless", endless=True)
        server = processes.ServerProcess([*model, *options], key=key, threads=1)
        started.append(server)
        return server.__enter__()

    yield start
    for server in started:
        server.__exit__(None, None, None)


def in_threads(work, times):
    found = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_what_runs_is_answered_before_it_ends(running):
    server = running()
    with httpx.stream("POST", server.url + PATH, json=LONG | {"stream": True}) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        server.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    assert json.loads(first.removeprefix("data: "))["choices"][0]["text"]
    assert rest[-1] == "data: [DONE]"
    assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"]
    assert server.process.wait(30) == 0, server.log()


def test_a_person_ends_it(running):
    server = running()
    assert f"serving embedded on {server.url}/" in server.log()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 130
    assert "Traceback" not in server.log()


def test_a_full_queue_says_when_to_come_again_and_loses_nobody(running):
    server = running("--running", "2", "--queue", "3")
    body = LONG | {"emotion": "joy"}
    answers = in_threads(lambda: httpx.post(server.url + PATH, json=body, timeout=60), 24)
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 5
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["type"] == "rate_limit_error"
    assert len({a.json()["choices"][0]["text"] for a in answers if a.status_code == 200}) == 1
    counted = server.settled()
    assert counted["emokernel_slots_in_use"] == counted["emokernel_requests_running"] == 0


def test_who_hangs_up_frees_the_slot_streamed_or_not(running):
    server = running()
    for stream in (True, False):
        body = json.dumps(LONG | {"emotion": "joy", "stream": stream}).encode()
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
            head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            while not server.metrics()["emokernel_slots_in_use"]:
                time.sleep(0.005)
        gone = time.monotonic()
        while server.metrics()["emokernel_slots_in_use"]:
            time.sleep(0.005)
        assert time.monotonic() - gone < 1.0
    assert server.metrics()["emokernel_hang_ups_total"] == 2


def events(lines):
    """The events of a stream as they come."""
    for line in lines:
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.parametrize("options", [(), ("--no-continuous-batching",)])
def test_emotions_are_compared_and_changed_beside_other_requests(running, options):
    server = running(*options, endless=True)
    compare = server.url + "/v1/emotions/compare"
    asked = {"emotions": [None, "joy", "joy"], "max_tokens": 100, "temperature": 1.2, "seed": 4}
    asked["prompt"] = LONG["prompt"]

    def texts(others):
        found, changed = ["", "", ""], None
        with httpx.stream("POST", compare, json=asked, timeout=60) as answer:
            for event in events(answer.iter_lines()):
                if event["type"] == "start":
                    others(event["stream"])
                elif event["type"] == "text":
                    found[event["side"]] += event["text"]
                elif event["type"] == "changed":
                    changed = event["step"]
        return found, changed

    alone, _ = texts(lambda token: None)
    assert alone[0] != alone[1] == alone[2]

    def flood(token):
        body = LONG | {"emotion": "anger"}
        for _ in range(4):
            given = {"json": body, "timeout": 60}
            threading.Thread(target=httpx.post, args=(server.url + PATH,), kwargs=given).start()
        one = f"{server.url}/v1/emotions/streams/{token}"
        answer = httpx.post(one, json={"emotions": [None, "joy", "anger"]})
        assert answer.status_code == 200
        assert answer.json()["from_step"] >= 0

    beside, changed = texts(flood)
    assert beside[:2] == alone[:2]
    assert beside[2] != alone[2]
    assert changed is not None
    assert server.settled()["emokernel_slots_in_use"] == 0


def test_the_emotion_of_a_request_cannot_be_changed(running):
    server = running(endless=True)
    with httpx.stream("POST", server.url + PATH, json=LONG | {"stream": True}) as answer:
        coming = events(answer.iter_lines())  # dropped, it would hang up
        own = next(coming)["id"]
        change = {"emotions": ["joy"]}
        refused = httpx.post(f"{server.url}/v1/emotions/streams/{own}", json=change)
    assert refused.status_code == 409
    assert "/v1/emotions/compare" in refused.json()["detail"]
    time.sleep(0.2)
    gone = httpx.post(f"{server.url}/v1/emotions/streams/{own}", json=change)
    assert gone.status_code == 404


def test_a_browser_is_shown_the_page(running, tmp_path, monkeypatch):
    shown, browser = tmp_path / "shown", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shown}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    server = running("--open")
    for _ in range(100):
        if shown.exists() and shown.read_text():
            break
        time.sleep(0.05)
    assert shown.read_text().strip() == f"{server.url}/"


def test_a_key_is_needed_where_there_is_one_and_never_told(running):
    server = running(key="the-key-of-this-test")
    assert httpx.get(f"{server.url}/health").status_code == 200
    refused = httpx.get(f"{server.url}/v1/emotions")
    assert refused.status_code == 401
    assert httpx.get(f"{server.url}/v1/emotions", headers=server.headers).status_code == 200
    assert httpx.get(f"{server.url}/v1/models", headers={"Host": "evil.example"}).status_code == 403
    assert "the-key-of-this-test" not in server.log() + refused.text


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "emokernel.cli", "serve", *EMBEDDED, "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr.splitlines()[-1]
