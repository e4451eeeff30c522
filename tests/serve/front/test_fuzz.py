"""Whatever a client sends is answered as the OpenAPI description says, and nothing is a 500."""

import asyncio
import copy
import json

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from serve.front.calls import Answer, Call, is_refusal
from serve.made import BATCHING, make_server

schemathesis = pytest.importorskip("schemathesis", reason="pip install 'schemathesis>=4'")

PATHS = "/v1/chat/completions", "/v1/completions", "/v1/responses"
WATCHED = "/health", "/ready", "/metrics", "/v1/models", "/v1/emotions"
REFUSED = {400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 503}
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def examples(most):
    """So many, however long each takes."""
    return settings(deadline=None, suppress_health_check=SLOW, max_examples=most)


@pytest.fixture(scope="module")
def app():
    """The application with its guard, with answers of three tokens at most."""
    made = make_server(*BATCHING, "--max-tokens", "3")
    made.service.processor.chat_template = "{{ messages[-1]['content'] }}"
    yield made.front
    made.close()


class OneWay:
    """What schemathesis asks: our own ``Host`` and whatever else it likes."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            kept = [each for each in scope["headers"] if each[0] != b"host"]
            scope = {**scope, "headers": [*kept, (b"host", b"127.0.0.1")]}
        await self._app(scope, receive, send)


@pytest.fixture(scope="module")
def described(app):
    return schemathesis.openapi.from_asgi("/openapi.json", OneWay(app))


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in (*WATCHED, "/v1/models/{name}")),
        *(("POST", path) for path in (*PATHS, "/v1/emotions/compare", "/v1/emotions/read")),
        ("POST", "/v1/emotions/streams/{token}"),
    ],
)
def test_all_answers_are_those_of_the_description(described, method, path, mode):
    operation = described[path][method]
    if method == "GET" and mode is schemathesis.GenerationMode.NEGATIVE:
        return  # it takes nothing that could be wrong

    @examples(25)
    @given(operation.as_strategy(generation_mode=mode))
    def validate(case):
        # A body of the right form may still ask for what cannot be.
        case.call_and_validate(excluded_checks=[schemathesis.checks.positive_data_acceptance])

    validate()


STREAMED = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}], "stream": True},
    "/v1/completions": {"prompt": "a", "stream": True},
    "/v1/responses": {"input": "a", "stream": True},
    "/v1/emotions/compare": {"prompt": "a", "emotions": [None, "joy"]},
}


@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_is_that_of_the_description(described, path):
    """Which few of the requests above ask for that can be answered."""
    case = described[path]["POST"].Case(body=STREAMED[path])
    answer = case.call_and_validate(excluded_checks=[schemathesis.checks.positive_data_acceptance])
    assert answer.status_code == 200
    *_, last = [line for line in answer.text.splitlines() if line]
    event = described.raw_schema["paths"][path]["post"]["responses"]["200"]["content"][
        "text/event-stream"
    ]["itemSchema"]
    assert (last == "data: [DONE]") == ("[DONE]" in json.dumps(event))


def test_all_paths_of_the_description_are_tried(described):
    tried = test_all_answers_are_those_of_the_description.pytestmark[0].args[1]
    told = {
        (method.upper(), path)
        for path, methods in described.raw_schema["paths"].items()
        for method in methods
    }
    assert told == set(tried)


def ask(app, path, content, kind="application/json") -> Answer:
    headers = [("host", "127.0.0.1"), ("content-type", kind)]
    return asyncio.run(Call(path, content, headers=headers).serve(app))


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
    "model": "embedded", "temperature": 0.5, "top_p": 0.9, "seed": 3, "stream": False, "user": "u",
    "stream_options": {"include_usage": True}, "emotion": {"joy": 0.5, "fear": 0.5},
    "strength": 0.5, "law": "add", "positions": "all", "dose": "absolute",
}  # fmt: skip
WHOLE = {
    "/v1/chat/completions": {
        **COMMON, "max_tokens": 3, "stop": ["x"], "n": 1, "logit_bias": {}, "metadata": {"a": "b"},
        "tools": [{"type": "function", "function": TOOL}], "tool_choice": "auto",
        "response_format": {"type": "text"},
        "messages": [
            {"role": "system", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "a", "tool_call_id": "c"},
        ],
    },
    "/v1/completions": {**COMMON, "prompt": "a", "max_tokens": 3, "stop": "x", "echo": False},
    "/v1/responses": {
        **COMMON, "max_output_tokens": 3, "instructions": "a", "store": False,
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
def test_what_is_right_is_served(app, path):
    check(ask(app, path, WHOLE[path]), {200})


@pytest.mark.parametrize("path", PATHS)
@examples(100)
@given(st.data())
def test_a_body_with_one_place_broken_is_served_or_refused(app, path, data):
    place = data.draw(st.sampled_from(list(places(WHOLE[path]))))
    how = data.draw(st.sampled_from(["replaced", "removed", "added"]))
    body = broken(WHOLE[path], place, how, data.draw(ANY))
    check(ask(app, path, json.dumps(body).encode()), {200, 400, 404})


@pytest.mark.parametrize("path", PATHS)
@examples(100)
@given(ANY)
def test_any_json_is_refused(app, path, body):
    check(ask(app, path, json.dumps(body).encode()), {400})


@pytest.mark.parametrize("path", PATHS)
@examples(100)
@given(st.binary(max_size=200), st.text(max_size=30))
def test_any_bytes_are_refused(app, path, content, kind):
    check(ask(app, path, content), {400})
    kind = kind.encode("ascii", "replace").decode().replace("\0", "")
    check(ask(app, path, content, kind), {400, 415})


@pytest.mark.parametrize("path", PATHS)
@examples(40)
@given(st.data())
def test_right_json_cut_or_with_one_byte_changed_is_served_or_refused(app, path, data):
    content = bytearray(json.dumps(WHOLE[path]).encode())
    where = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[where:]
    else:
        content[where] = data.draw(st.integers(0, 255))
    check(ask(app, path, bytes(content)), {200, 400, 404})


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
def test_what_is_huge_or_deep_is_refused(app, path, content):
    check(ask(app, path, content), {400, 413})


def test_a_body_that_is_made_to_keep_the_server_busy_is_refused(app):
    parts = b'{"a":1},' * 250 + b"{}"
    message = b'{"role":"user","content":[' + parts + b"]}"
    content = b'{"messages":[' + b",".join([message] * 1900) + b"]}"
    answer = ask(app, "/v1/chat/completions", content)
    check(answer, {400})
    assert "more than 50000 objects" in answer.json["detail"]
