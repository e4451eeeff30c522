"""Paths of vLLM that would answer unsteered refuse an emotion, and leave all else alone."""

from __future__ import annotations

import asyncio
import json

import pytest
from serve.asgi import Bodies, ask

from emokernel.engines.vllm.asked import ASKING
from emokernel.serve.vllm.other_paths import PATHS, OtherPaths

XARGS = [path for path, where in PATHS.items() if where == "vllm_xargs"]
OTHERS = [path for path in PATHS if path not in XARGS]


def asked(body, path, method="POST"):
    """(The status, the answer, the bodies that came through)."""
    served = Bodies()
    return *asyncio.run(ask(OtherPaths(served), path, body, method)), served.bodies


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("field", sorted(ASKING))
def test_an_emotion_at_the_top_is_refused_with_where_to_send_it(field, path):
    status, answer, came = asked({field: "joy", "prompt": "text"}, path)
    assert (status, came) == (400, [])
    where = PATHS[path] or "a request to /v1/chat/completions"
    assert answer["detail"] == f"{path} does not read {field} there: send it in {where}"


@pytest.mark.parametrize("path", OTHERS)
def test_an_emotion_in_vllm_xargs_is_refused_where_nobody_reads_them(path):
    status, answer, came = asked({"vllm_xargs": {"emotion": "joy"}}, path)
    assert (status, came) == (400, [])
    assert "does not read emotion there" in answer["detail"]


@pytest.mark.parametrize("path", XARGS)
def test_an_emotion_in_vllm_xargs_is_let_through_where_it_is_read(path):
    content = json.dumps({"vllm_xargs": {"emotion": "joy"}}).encode()
    assert asked(content, path) == (200, "served", [content])


@pytest.mark.parametrize(
    "content",
    [
        b'{"prompt": "text"}', b'{"vllm_xargs": null}', b'{"vllm_xargs": ["emotion"]}',
        b'{"strength": 1}', b'["emotion"]', b'"emotion"', b"null", b"{", b"", b"\xff",
        b"[" * 100_000, b'{"prompt": {"emotion": "joy"}}',
    ],
    ids=lambda content: repr(content[:20]),
)  # fmt: skip
@pytest.mark.parametrize("path", [XARGS[0], OTHERS[0]])
def test_everything_else_is_left_to_the_server(content, path):
    assert asked(content, path) == (200, "served", [content])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/other"])
def test_a_path_that_is_not_ours_is_not_read(path):
    content = b'{"emotion": "joy"}'
    assert asked(content, path) == (200, "served", [content])
    assert asked(content, OTHERS[0], "PUT") == (200, "served", [content])


def test_a_server_below_a_path_of_a_proxy_is_known():
    served = Bodies()

    async def below(scope, receive, send):
        root = {"root_path": "/llm", "path": "/llm" + scope["path"]}
        await OtherPaths(served)({**scope, **root}, receive, send)

    assert asyncio.run(ask(below, OTHERS[0], {"emotion": "joy"}))[0] == 400


def test_other_protocols_are_let_through():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    for kind in ("lifespan", "websocket"):
        asyncio.run(OtherPaths(app)({"type": kind, "path": OTHERS[0]}, None, None))
    assert seen == ["lifespan", "websocket"]


def test_a_client_that_leaves_is_not_answered():
    async def gone():
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "path": OTHERS[0], "headers": []}
    asyncio.run(OtherPaths(pytest.fail)(scope, gone, pytest.fail))
