"""The page over vLLM: it opens, is told all that it asks for, and is answered as it streams."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import httpx
import pytest
from real_vllm.server import HEADERS, TEMPLATE

from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.serve.page.routes import page_routes

EMOTIONS, READ = "/v1/emotions", "/v1/emotions/read"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
POINT = {"emotion": {"valence": -0.7, "arousal": 0.6}, "strength": 1.2}
MIX = {"emotion": {"joy": 0.5, "fear": 0.4}, "strength": 1.2, "law": "add", "positions": "all"}
NOTHING = {"emotion": None, "strength": 1.2, "law": "preserve", "positions": "generated"}


def test_it_opens_without_a_key_and_nothing_else_does(server):
    for route in page_routes():
        assert httpx.get(server.url + route.path).status_code == 200
    assert "text/html" in httpx.get(server.url).headers["content-type"]
    assert httpx.get(server.url + EMOTIONS).status_code == 401
    assert httpx.post(server.url + READ, json={"text": "x"}).status_code == 401


def test_the_list_is_that_of_our_own_server(server):
    """But for what else each of them does, and for its name."""
    from serve.emotions.served import Served
    from serve.front.calls import ask

    from emokernel import patch

    model, tokenizer = load_model()
    own = Served(model, tokenizer, patch(model, load_vectors()))
    expected = ask(own.app, EMOTIONS, method="GET").json
    status, told = server.ask(EMOTIONS)
    assert status == 200
    abilities = {"chat": True, "sides": None, "judge": "embedded-evaluation", "max_tokens": None}
    name = server.ask("/v1/models")[1]["data"][0]["id"]
    assert told == expected | {"model": name, "abilities": abilities}


def test_texts_are_read(server):
    texts = ["I am so happy for you!", "This makes me furious."]
    status, answer = server.ask(READ, {"texts": texts})
    assert status == 200
    assert (answer["model"], answer["coordinates"]) == ("embedded-evaluation", "russell")
    happy, furious = (each["place"] for each in answer["data"])
    assert happy["valence"] > furious["valence"]
    assert server.ask(READ, {"text": "x", "texts": ["x"]})[0] == 400


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_sides_are_streams_of_one_seed(server, embedded, path):
    """As the page asks: two that ask for nothing say the same, others do not, at once too."""
    asked = {
        "model": server.ask(EMOTIONS)[1]["model"], "stream": True, "seed": 7, "temperature": 0.8,
        "top_p": 0.9, "max_tokens": 24, "ignore_eos": True,
    }  # fmt: skip
    if path == CHAT:
        asked["messages"] = [{"role": "user", "content": embedded.texts[1]}]
    else:
        asked["prompt"] = embedded.texts[1]

    async def said(client, feeling):
        text, ended = "", False
        async with client.stream("POST", server.url + path, json=asked | feeling) as stream:
            assert stream.status_code == 200
            async for line in stream.aiter_lines():
                if line.startswith("data: {"):
                    (choice,) = json.loads(line.removeprefix("data: "))["choices"]
                    piece = choice["delta"].get("content") if path == CHAT else choice["text"]
                    text += piece or ""
                ended |= line == "data: [DONE]"
        assert ended
        return text

    async def run():
        async with httpx.AsyncClient(headers=HEADERS, timeout=120) as client:
            first = await said(client, {"emotion": None})
            return first, await asyncio.gather(
                *(said(client, feeling) for feeling in (NOTHING, POINT, MIX))
            )

    first, (nothing, point, mix) = asyncio.run(run())
    assert first
    assert nothing == first
    assert len({first, point, mix}) == 3


@pytest.mark.parametrize(
    ("template", "takes"),
    [(None, False), (TEMPLATE, True), ("{{ raise_exception('no users') }}", False)],
)
def test_a_server_takes_messages_where_it_makes_a_prompt_of_one(embedded, template, takes):
    """The embedded model's tokenizer has no template of its own."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.renderers import renderer_from_config

    from emokernel.serve.vllm.http import renders_messages

    config = EngineArgs(model=str(embedded.folder), dtype="float32").create_engine_config()
    rendering = SimpleNamespace(
        renderer=renderer_from_config(config), chat_template=template,
        chat_template_content_format="auto", default_chat_template_kwargs={},
    )  # fmt: skip
    assert asyncio.run(renders_messages(rendering)) is takes
