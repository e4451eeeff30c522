"""Whatever a client sends is answered as the OpenAPI description says, and nothing is a 500."""

import asyncio
import copy
import json

import hypothesis.strategies as st
import pytest
from fastapi import FastAPI, Request
from hypothesis import HealthCheck, given, settings
from serve.front.calls import Answer, Call, is_refusal
from starlette.responses import JSONResponse

from emokernel.serve.front.exposure import Settings
from emokernel.serve.front.guard import front
from emokernel.serve.front.handlers import REFUSALS, install
from emokernel.serve.schemas import (
    ChatBody,
    CompletionBody,
    ResponseBody,
    answers,
    to_handler,
)

schemathesis = pytest.importorskip("schemathesis", reason="pip install 'schemathesis>=4'")

PATHS = {
    "/v1/chat/completions": ChatBody,
    "/v1/completions": CompletionBody,
    "/v1/responses": ResponseBody,
}
REFUSED = {400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 503}
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def examples(most):
    """So many, however long each takes."""
    return settings(deadline=None, suppress_health_check=SLOW, max_examples=most)


def dummy(path, body):
    """A true answer's shape, without a model."""
    body.asked()
    asked = to_handler(body)
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    common = {"id": "x", "created": 1, "model": "m", "usage": usage}
    if path == "/v1/completions":
        choice = {"index": 0, "text": asked["prompt"][:5], "finish_reason": "stop"}
        return common | {"object": "text_completion", "choices": [choice]}
    if path == "/v1/chat/completions":
        message = {"role": "assistant", "content": asked["messages"][0]["role"]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return common | {"object": "chat.completion", "choices": [choice]}
    made = {"parallel_tool_calls": False, "tool_choice": "auto", "tools": [], "output": []}
    return {"id": "x", "created_at": 1, "model": "m", "object": "response"} | made


def make_app():
    """(The application with its guard, its OpenAPI description)."""
    app = FastAPI(responses=REFUSALS)
    install(app)

    def add(path, kind):
        async def answer(body: kind, request: Request):
            return JSONResponse(dummy(path, body))

        app.add_api_route(path, answer, methods=["POST"], responses=answers(path))

    for path, kind in PATHS.items():
        add(path, kind)
    return front(app, Settings()), app.openapi()


APP, OPENAPI = make_app()


class OneWay:
    """What schemathesis asks: our own ``Host`` and whatever else it likes."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            kept = [each for each in scope["headers"] if each[0] != b"host"]
            scope = {**scope, "headers": [*kept, (b"host", b"127.0.0.1")]}
        await self._app(scope, receive, send)


schema = schemathesis.openapi.from_dict(OPENAPI)
schema.app = OneWay(APP)


@examples(40)
@schema.parametrize()
def test_all_answers_are_those_of_the_description(case):
    case.call_and_validate(
        excluded_checks=[
            # A body of the right form may still ask for what cannot be.
            schemathesis.checks.positive_data_acceptance,
        ]
    )


def ask(path, content, kind="application/json") -> Answer:
    headers = [("host", "127.0.0.1"), ("content-type", kind)]
    return asyncio.run(Call(path, content, headers=headers).serve(APP))


def check(answer: Answer, statuses=frozenset({200, *REFUSED})) -> None:
    assert answer.status in statuses
    assert answer.ended
    assert len(answer.body) < 5000
    assert answer.status == 200 or is_refusal(answer)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
    | st.sampled_from([10**400, -(10**400), 2**63, "\ud800", "x" * 10_000, "file:///etc/passwd"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=6) | st.sampled_from(["type", "text", "role", "content",
                      "valence", "arousal", "intensity", "joy", "url"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"name": "f", "description": "d", "parameters": {"type": "object"}}
COMMON = {
    "model": "m", "temperature": 0.5, "top_p": 0.9, "seed": 3, "stream": False, "user": "u",
    "stream_options": {"include_usage": True}, "emotion": {"joy": 0.5, "fear": 0.5},
    "strength": 0.5, "law": "add", "positions": "all", "dose": "absolute",
}  # fmt: skip
WHOLE = {
    "/v1/chat/completions": {
        **COMMON, "max_tokens": 5, "stop": ["x"], "n": 1, "logit_bias": {}, "metadata": {"a": "b"},
        "tools": [{"type": "function", "function": TOOL}], "tool_choice": "auto",
        "response_format": {"type": "text"},
        "messages": [
            {"role": "system", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "a", "tool_call_id": "c"},
        ],
    },
    "/v1/completions": {**COMMON, "prompt": "a", "max_tokens": 5, "stop": "x", "echo": False},
    "/v1/responses": {
        **COMMON, "max_output_tokens": 5, "instructions": "a", "store": False,
        "tools": [{"type": "function", **TOOL}], "text": {"format": {"type": "text"}},
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "a"},
        ],
    },
}  # fmt: skip


def places(held, path=()):
    """All (path)s of a body, of objects, lists and what they hold."""
    yield path
    inner = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(
        held, list) else ()  # fmt: skip
    for name, each in inner:
        yield from places(each, (*path, name))


def broken(body, path, how, value):
    """The body with one place changed."""
    if not path:
        return value
    body = copy.deepcopy(body)
    held = body
    for name in path[:-1]:
        held = held[name]
    if how == "removed":
        del held[path[-1]]
    elif how == "added" and isinstance(held, dict):
        held[f"{path[-1]}s"] = value
    else:
        held[path[-1]] = value
    return body


@pytest.mark.parametrize("path", PATHS)
def test_what_is_right_is_served(path):
    check(ask(path, WHOLE[path]), {200})


@pytest.mark.parametrize("path", PATHS)
@examples(100)
@given(st.data())
def test_a_body_with_one_place_broken_is_served_or_refused(path, data):
    place = data.draw(st.sampled_from(list(places(WHOLE[path]))))
    how = data.draw(st.sampled_from(["replaced", "removed", "added"]))
    body = broken(WHOLE[path], place, how, data.draw(ANY))
    check(ask(path, json.dumps(body).encode()), {200, 400})


@pytest.mark.parametrize("path", PATHS)
@examples(100)
@given(ANY)
def test_any_json_is_refused(path, body):
    check(ask(path, json.dumps(body).encode()), {400})


@pytest.mark.parametrize("path", PATHS)
@examples(100)
@given(st.binary(max_size=200), st.text(max_size=30))
def test_any_bytes_are_refused(path, content, kind):
    check(ask(path, content), {400})
    kind = kind.encode("ascii", "replace").decode().replace("\0", "")
    check(ask(path, content, kind), {400, 415})


@pytest.mark.parametrize("path", PATHS)
@examples(40)
@given(st.data())
def test_right_json_cut_or_with_one_byte_changed_is_served_or_refused(path, data):
    content = bytearray(json.dumps(WHOLE[path]).encode())
    where = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[where:]
    else:
        content[where] = data.draw(st.integers(0, 255))
    check(ask(path, bytes(content)), {200, 400})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "content",
    [
        b'{"prompt":"' + b"x" * (4 * 2**20) + b'"}',
        b'{"input":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        b'{"messages":' + b'{"a":' * 500_000 + b"1" + b"}" * 500_000 + b"}",
        b'{"messages":[' + b"{}," * 100_000 + b"{}]}",
        b'{"tools":[' + b'{"type":"function"},' * 50_000 + b"{}]}",
        b"{" + b",".join(b'"k%d":1' % number for number in range(100_000)) + b"}",
        b'{"emotion":{' + b",".join(b'"k%d":1' % number for number in range(100_000)) + b"}}",
        b'{"seed":' + b"9" * 4000 + b"}",
        b'{"stop":[' + b'"a",' * 500_000 + b'"a"]}',
    ],
    ids=lambda content: f"{content[:12]!r} {len(content)}",
)
def test_what_is_huge_or_deep_is_refused(path, content):
    check(ask(path, content), {400, 413})


def test_a_body_that_is_made_to_keep_the_server_busy_is_refused():
    parts = b'{"a":1},' * 250 + b"{}"
    message = b'{"role":"user","content":[' + parts + b"]}"
    content = b'{"messages":[' + b",".join([message] * 1900) + b"]}"
    answer = ask("/v1/chat/completions", content)
    check(answer, {400})
    assert "more than 50000 objects" in answer.json["detail"]
