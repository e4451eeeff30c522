"""The process that computes is killed: requests fail, and none comes back unsteered."""

from __future__ import annotations

import json
import threading
import time

import httpx
import pytest
from real_vllm.cases import Case
from real_vllm.reference import Reference
from real_vllm.server import HEADERS, KEY, NAME, Server

STEPS = 200
PATH = "/v1/completions"


def body_of(case, steps=STEPS):
    return {
        "model": NAME, "prompt": case.prompt, "max_tokens": steps, "temperature": 0,
        "ignore_eos": True, "return_token_ids": True, "emotion": case.emotion,
    }  # fmt: skip


class Listener(threading.Thread):
    """Reads a stream to its end, however that comes."""

    def __init__(self, server, case):
        super().__init__()
        self.server, self.case = server, case
        self.tokens, self.complete = [], False

    def run(self):
        body = {**body_of(self.case), "stream": True}
        try:
            with httpx.stream(
                "POST", self.server.url + PATH, json=body, headers=HEADERS, timeout=60
            ) as stream:
                for line in stream.iter_lines():
                    self._read(line.removeprefix("data: "))
        except httpx.TransportError:
            pass  # the connection is gone with its server

    def _read(self, said):
        if said and said != "[DONE]":
            choices = json.loads(said).get("choices", ())
            self.tokens += [token for choice in choices for token in choice["token_ids"]]
            self.complete |= any(choice["finish_reason"] for choice in choices)


def test_a_killed_core_and_a_new_start(embedded, scratch):
    """The new server is told by variables of its environment, instead of options."""
    cases = [Case(embedded.prompts[1], name) for name in ("joy", "anger", "sadness", "fear")]
    expected = Reference(embedded.folder, embedded.vectors).texts(cases, STEPS)
    emotions = embedded.emotions()
    with Server(embedded.folder, scratch / "killed.log", emotions, "--api-key", KEY) as server:
        listeners = [Listener(server, case) for case in cases]
        for each in listeners:
            each.start()
        _until(lambda: all(len(each.tokens) > 3 for each in listeners))
        server.engine_core().kill()
        for each in listeners:
            each.join()
        for each, text in zip(listeners, expected, strict=True):
            assert not each.complete
            assert each.tokens == text.tokens[: len(each.tokens)]
        for case in cases:
            _assert_fails(server, PATH, body_of(case, 4))
        _assert_fails(server, "/v1/emotions")

    variables = {"EMOKERNEL_VLLM_VECTORS": str(embedded.file), "EMOKERNEL_VLLM_EXACT": "false"}
    with Server(embedded.folder, scratch / "again.log", **variables) as again:
        for case, text in zip(cases, expected, strict=True):
            status, answer = again.ask(PATH, body_of(case))
            assert status == 200
            assert answer["choices"][0]["token_ids"] == text.tokens


def _assert_fails(server, path, body=None):
    try:
        status, answer = server.ask(path, body)
    except httpx.TransportError:
        return
    assert status >= 500, answer


def _until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            pytest.fail("the requests do not begin")
        time.sleep(0.01)
