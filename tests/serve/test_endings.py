"""How answers end, as OpenAI's clients read it."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("fastapi", reason="pip install 'emokernel[serve]'")

from starlette.responses import JSONResponse

from emokernel.serve.endings import chat_ended
from emokernel.serve.engine import Wish


def chat(content):
    message = {"role": "assistant", "content": content, "reasoning_content": "so END"}
    return JSONResponse({"choices": [{"index": 0, "message": message}], "id": "x"})


@pytest.mark.parametrize(
    ("content", "stop", "wanted"),
    [("a END b", ("END",), "a "), ("a b", ("END",), "a b"), ("a END", (), "a END")],
)
def test_what_a_parser_took_from_tokens_ends_before_a_stop(content, stop, wanted):
    answer = json.loads(chat_ended(chat(content), Wish(stop=stop)).body)
    assert answer == json.loads(chat(wanted).body)


@pytest.mark.parametrize("content", [None, ""])
def test_a_message_without_content_is_left_alone(content):
    assert chat_ended(chat(content), Wish(stop=("x",))).body == chat(content).body
