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

PATH, COMPARE = "/v1/completions", "/v1/emotions/compare"
LONG = {"prompt": "They told us that", "max_tokens": 200, "temperature": 1.5, "seed": 3}


def started(folder, *options, key=None):
    """A server of the embedded model, whose texts are as long as they are asked to be."""
    model = processes.embedded_for_chats(folder / "endless", endless=True)
    return processes.ServerProcess([*model, *options], key=key, threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(folder):
    """The one of most tests, with all defaults, a key and a browser that notes what it is shown."""
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {folder}/shown\n')
    browser.chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BROWSER", str(browser))
        running = started(folder, "--open", key="the-key-of-this-test").__enter__()
    yield running
    running.__exit__(None, None, None)


def post(server, path, body):
    return httpx.post(server.url + path, json=body, headers=server.headers, timeout=60)


def stream(server, path, body):
    return httpx.stream("POST", server.url + path, json=body, headers=server.headers, timeout=60)


def in_threads(work, times):
    found = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def events(answer):
    """The events of a stream as they come."""
    for line in answer.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def test_a_browser_is_shown_the_page(server, folder):
    assert f" on {server.url}/" in server.log()
    for _ in range(100):
        if (folder / "shown").exists() and (folder / "shown").read_text():
            break
        time.sleep(0.05)
    assert (folder / "shown").read_text().strip() == f"{server.url}/"


def test_a_key_is_needed_where_there_is_one_and_never_told(server):
    assert httpx.get(f"{server.url}/health").status_code == 200
    refused = httpx.get(f"{server.url}/v1/emotions")
    assert refused.status_code == 401
    assert httpx.get(f"{server.url}/v1/emotions", headers=server.headers).status_code == 200
    assert httpx.get(f"{server.url}/v1/models", headers={"Host": "evil.example"}).status_code == 403
    assert server.key not in server.log() + refused.text


def test_who_hangs_up_frees_the_slot_streamed_or_not(server):
    before, began = server.metrics()["emokernel_hang_ups_total"], time.monotonic()
    assert post(server, PATH, LONG | {"emotion": "joy"}).status_code == 200
    whole = time.monotonic() - began
    for streams in (True, False):
        body = json.dumps(LONG | {"emotion": "joy", "stream": streams}).encode()
        head = [
            f"POST {PATH} HTTP/1.1", "Host: localhost", "Content-Type: application/json",
            f"Authorization: Bearer {server.key}", f"Content-Length: {len(body)}", "", "",
        ]  # fmt: skip
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
            client.sendall("\r\n".join(head).encode() + body)
            while not server.metrics()["emokernel_slots_in_use"]:
                time.sleep(0.005)
        gone = time.monotonic()
        while server.metrics()["emokernel_slots_in_use"]:
            time.sleep(0.005)
        assert time.monotonic() - gone < whole / 2
    assert server.metrics()["emokernel_hang_ups_total"] == before + 2


def test_the_emotion_of_a_request_cannot_be_changed(server):
    change = {"emotions": ["joy"]}
    with stream(server, PATH, LONG | {"stream": True}) as answer:
        coming = events(answer)  # dropped, it would hang up
        own = next(coming)["id"]
        refused = post(server, f"/v1/emotions/streams/{own}", change)
    assert refused.status_code == 409
    assert COMPARE in refused.json()["detail"]
    server.settled()
    assert post(server, f"/v1/emotions/streams/{own}", change).status_code == 404


def check_compare(server):
    asked = {"emotions": [None, "joy", "joy"], "max_tokens": 100, "temperature": 1.2, "seed": 4}
    asked["prompt"] = LONG["prompt"]

    def texts(others):
        found, changed = ["", "", ""], None
        with stream(server, COMPARE, asked) as answer:
            for event in events(answer):
                if event["type"] == "start":
                    others(event["stream"])
                elif event["type"] == "text":
                    found[event["side"]] += event["text"]
                elif event["type"] == "changed":
                    changed = event["step"]
        return found, changed

    alone, _ = texts(lambda token: None)
    assert alone[0] != alone[1] == alone[2]
    body = LONG | {"emotion": "anger", "max_tokens": 60}
    flood = [threading.Thread(target=post, args=(server, PATH, body)) for _ in range(4)]

    def change(token):
        for thread in flood:
            thread.start()
        wanted = {"emotions": [None, "joy", "anger"]}
        answer = post(server, f"/v1/emotions/streams/{token}", wanted)
        assert answer.status_code == 200
        assert answer.json()["from_step"] >= 0

    beside, changed = texts(change)
    for thread in flood:
        thread.join()
    assert beside[:2] == alone[:2]
    assert beside[2] != alone[2]
    assert changed is not None
    assert server.settled()["emokernel_slots_in_use"] == 0


def test_emotions_are_compared_and_changed_beside_other_requests(server):
    check_compare(server)


def test_what_runs_is_answered_before_it_ends(server):
    with stream(server, PATH, LONG | {"stream": True}) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        server.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    assert json.loads(first.removeprefix("data: "))["choices"][0]["text"]
    assert rest[-1] == "data: [DONE]"
    last = json.loads(rest[-2].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["usage"]["completion_tokens"] == LONG["max_tokens"]
    assert server.process.wait(30) == 0, server.log()
    assert server.key not in server.log()


def test_one_after_the_other_they_are_compared_too_and_a_person_ends_it(tmp_path):
    with started(tmp_path, "--no-continuous-batching") as server:
        check_compare(server)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 130
        assert "Traceback" not in server.log()


def test_a_full_queue_says_when_to_come_again_and_loses_nobody(tmp_path):
    with started(tmp_path, "--running", "2", "--queue", "3") as server:
        body = LONG | {"emotion": "joy", "max_tokens": 60}
        answers = in_threads(lambda: post(server, PATH, body), 24)
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        assert statuses.count(200) >= 5
        for answer in answers:
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json()["error"]["type"] == "rate_limit_error"
        served = {a.json()["choices"][0]["text"] for a in answers if a.status_code == 200}
        assert len(served) == 1
        counted = server.settled()
        assert counted["emokernel_slots_in_use"] == counted["emokernel_requests_running"] == 0


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "emokernel.cli", "serve", "embedded", "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr.splitlines()[-1]
