"""What cannot be done is a 400 that says why, never an answer that is not steered."""

from __future__ import annotations

import json
import re

import httpx
import pytest
from real_vllm.server import HEADERS, NAME

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
BODIES = {
    CHAT: {"messages": [{"role": "user", "content": "They told us"}], "max_tokens": 2},
    COMPLETIONS: {"prompt": "They told us", "max_tokens": 2},
    RESPONSES: {"input": "They told us", "max_output_tokens": 16},
}
# What an emotion may not be, and what the answer says of it.
WRONG = (
    ({"emotion": "rage"}, "rage"),
    ({"emotion": ["joy"]}, r"\[name, weight"),
    ({"emotion": ["joy", 0.5, "joy", 0.4]}, "once"),
    ({"emotion": ["joy", 0.5, 3, 0.4]}, r"\[name, weight"),
    ({"emotion": '{"joy": '}, "JSON"),
    ({"emotion": '{"joy": 0.5, "rage": 0.4}'}, "rage"),
    ({"emotion": 3}, "emotion"),
    ({"emotion": "joy", "strength": "big"}, "strength"),
    ({"emotion": "joy", "strength": 1e39}, "strength|weight|large|finite"),
    ({"emotion": "joy", "law": "x"}, "law"),
    ({"emotion": "joy", "dose": "x"}, "dose"),
    ({"emotion": "joy", "positions": "nowhere"}, "positions"),
    ({"valence": 2.0, "arousal": 0.0}, "unit circle"),
    ({"valence": 0.5}, "arousal"),
    ({"emotion": "joy", "valence": 0.5, "arousal": 0.5}, "beside emotion"),
)
ONLY_IN_XARGS = (
    ({"strength": 0.5}, "without emotion"),
    ({"emokernel": "joy"}, "reserved"),
    ({"emotion": {"joy": 0.5}}, "vllm_xargs"),
)

RAGE = {"emotion": "rage"}


def refused(server, path, body):
    """The reason of a 400; the body is sent as it is, without the care that clients take."""
    status, answer = server.ask(path, {"model": NAME, "temperature": 0, **BODIES[path], **body})
    assert status == 400, answer
    return answer["error"]["message"]


@pytest.mark.parametrize(("said", "reason"), WRONG + ONLY_IN_XARGS)
def test_in_vllm_xargs(server, said, reason):
    assert re.search(reason, refused(server, CHAT, {"vllm_xargs": said}))


@pytest.mark.parametrize(("said", "reason"), WRONG)
def test_at_the_top_of_a_body(server, said, reason):
    assert re.search(reason, refused(server, CHAT, said))


@pytest.mark.parametrize("path", [COMPLETIONS, RESPONSES])
def test_on_the_other_paths(server, path):
    assert "rage" in refused(server, path, RAGE)
    assert "rage" in refused(server, path, {"vllm_xargs": RAGE})


def test_no_number_is_no_strength(server):
    assert refused(server, CHAT, {"emotion": "joy", "strength": float("nan")})


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("said", [{"emotion": "joy"}, {"vllm_xargs": {"emotion": "joy"}}])
def test_beam_search(server, path, said):
    assert "beam search" in refused(server, path, {"use_beam_search": True, "n": 2, **said})


@pytest.mark.parametrize("path", BODIES)
def test_said_twice(server, path):
    twice = {"emotion": "joy", "vllm_xargs": {"emotion": "joy"}}
    assert "vllm_xargs" in refused(server, path, twice)


def test_on_a_path_that_reads_it_elsewhere(server):
    body = {"model": NAME, "messages": [{"role": "user", "content": "They told us"}]}
    body |= {"max_tokens": 2}
    for said, reason in (({"emotion": "joy"}, "vllm_xargs"), ({"vllm_xargs": RAGE}, "rage")):
        status, answer = server.ask("/v1/messages", {**body, **said})
        assert status == 400
        assert reason in answer["error"]["message"]
    assert server.ask("/v1/messages", {**body, "vllm_xargs": {"emotion": "joy"}})[0] == 200


def test_one_bad_request_ends_no_other(server):
    """A stream that runs goes on to its end while a hundred others are refused."""
    body = {"model": NAME, "prompt": "They told us", "max_tokens": 150, "temperature": 0}
    body |= {"ignore_eos": True, "stream": True, "emotion": "joy"}
    with httpx.stream(
        "POST", server.url + COMPLETIONS, json=body, headers=HEADERS, timeout=120
    ) as stream:
        lines = stream.iter_lines()
        assert next(lines)
        for _ in range(100):
            refused(server, CHAT, {"emotion": "rage"})
        parts = [line.removeprefix("data: ") for line in lines if line]
    assert parts[-1] == "[DONE]"
    assert json.loads(parts[-2])["choices"][0]["finish_reason"] == "length"
