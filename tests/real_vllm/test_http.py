"""Emotions over HTTP: `vllm serve`, asked by the openai client as people use it."""

from __future__ import annotations

import asyncio
import time

import pytest
from openai import AsyncOpenAI, OpenAI
from real_vllm.cases import Case
from real_vllm.reference import Reference
from real_vllm.server import KEY, NAME

STEPS = 20
EXACTLY = {"ignore_eos": True, "return_token_ids": True}
MIX, POINT = {"joy": 0.5, "fear": 0.4}, {"valence": 0.5, "arousal": 0.8}
# (what stands in the body beside the rest, the same as a `Case`)
SAID = (
    ({}, {}),
    ({"vllm_xargs": {"emotion": "joy"}}, {"emotion": "joy"}),
    ({"vllm_xargs": {"emotion": "joy", "strength": 0.5}}, {"emotion": "joy", "strength": 0.5}),
    ({"vllm_xargs": {"emotion": ["joy", 0.5, "fear", 0.4]}}, {"emotion": MIX}),
    ({"vllm_xargs": {"emotion": '{"joy": 0.5, "fear": 0.4}'}}, {"emotion": MIX}),
    ({"vllm_xargs": POINT}, {"emotion": POINT}),
    ({"vllm_xargs": {"emotion": "anger", "law": "add"}}, {"emotion": "anger", "law": "add"}),
    (
        {"vllm_xargs": {"emotion": "anger", "positions": "generated"}},
        {"emotion": "anger", "positions": "generated"},
    ),
    ({"emotion": "joy"}, {"emotion": "joy"}),
    ({"emotion": MIX, "strength": 1.4}, {"emotion": MIX, "strength": 1.4}),
    ({"emotion": POINT}, {"emotion": POINT}),
    ({**POINT, "intensity": 0.5}, {"emotion": {"valence": 0.25, "arousal": 0.4}}),
    ({"emotion": None}, {}),
)


@pytest.fixture(scope="module")
def client(server):
    return OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def wanted(embedded):
    """``wanted(**kind)``: the tokens that this emotion makes of the second prompt."""
    reference = Reference(embedded.folder, embedded.vectors)

    def wanted(prompt=embedded.prompts[1], **kind):
        return reference.texts([Case(prompt, **kind)], STEPS)[0].tokens

    return wanted


@pytest.fixture(scope="module")
def chat(client, embedded):
    """``chat(**options)``: the choices of an answer to the second prompt, sent as a message."""

    def chat(body=None, **options):
        talk = [{"role": "user", "content": embedded.texts[1]}]
        settings = {"temperature": 0, "max_tokens": STEPS, **options}
        extra = {**EXACTLY, **(body or {})}
        return client.chat.completions.create(
            model=NAME, messages=talk, extra_body=extra, **settings
        )

    return chat


@pytest.mark.parametrize(("body", "kind"), SAID)
def test_chat(chat, wanted, body, kind):
    assert chat(body).choices[0].token_ids == wanted(**kind)


@pytest.mark.parametrize(("body", "kind"), [SAID[0], SAID[3], SAID[9], SAID[11]])
def test_completions(client, embedded, wanted, body, kind):
    for prompt in (embedded.texts[1], embedded.prompts[1]):
        answer = client.completions.create(
            model=NAME, prompt=prompt, temperature=0, max_tokens=STEPS,
            extra_body={**EXACTLY, **body},
        )  # fmt: skip
        assert answer.choices[0].token_ids == wanted(**kind)


@pytest.mark.parametrize(("body", "kind"), [SAID[0], SAID[3], SAID[9], SAID[11]])
def test_responses(client, embedded, wanted, body, kind):
    """Their prompt begins twice: vLLM begins what the template has begun."""
    prompt = embedded.prompts[1]
    expected = embedded.tokenizer.decode(
        wanted([prompt[0], *prompt], **kind), skip_special_tokens=True
    )
    answer = client.responses.create(
        model=NAME, input=embedded.texts[1], temperature=0, max_output_tokens=STEPS,
        extra_body={**EXACTLY, **body},
    )  # fmt: skip
    assert answer.output_text.strip() == expected.strip()


def test_a_stream(chat, wanted):
    said = []
    for part in chat({"emotion": "joy"}, stream=True):
        said += [token for each in part.choices for token in getattr(each, "token_ids", None) or ()]
    assert said == wanted(emotion="joy")


def test_two_answers(chat):
    """n = 2 is two requests of one emotion, with seeds that follow each other."""
    both = chat({"emotion": "joy"}, n=2, seed=3, temperature=1)
    each = [chat({"emotion": "joy"}, seed=seed, temperature=1).choices[0] for seed in (3, 4)]
    assert [said.token_ids for said in both.choices] == [said.token_ids for said in each]
    plain = chat(n=2, seed=3, temperature=1)
    assert [said.token_ids for said in both.choices] != [said.token_ids for said in plain.choices]


def test_sixty_four_at_once_and_some_that_hang_up(server, embedded, wanted):
    """Five emotions in one batch, while others leave in the middle: each says its own."""
    kinds = [{}, *({"emotion": name} for name in ("joy", "anger", "sadness", "fear"))]
    talk = [{"role": "user", "content": embedded.texts[1]}]

    async def ask(client, kind):
        answer = await client.chat.completions.create(
            model=NAME, messages=talk, temperature=0, max_tokens=STEPS,
            extra_body={**EXACTLY, **kind},
        )  # fmt: skip
        return answer.choices[0].token_ids

    async def hang_up(client, kind):
        stream = await client.chat.completions.create(
            model=NAME, messages=talk, temperature=0, max_tokens=200, stream=True,
            extra_body={**EXACTLY, **kind},
        )  # fmt: skip
        async for _ in stream:
            break
        await stream.close()

    async def run():
        async with AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=120
        ) as client:
            asked = [ask(client, kinds[number % 5]) for number in range(64)]
            gone = [hang_up(client, kinds[number % 5]) for number in range(10)]
            said = await asyncio.gather(*asked, *gone)
            return said[:64], await asyncio.gather(*(ask(client, kind) for kind in kinds))

    expected = [wanted(**kind) for kind in kinds]
    assert len({tuple(tokens) for tokens in expected}) == 5
    said, afterwards = asyncio.run(run())
    assert all(tokens == expected[number % 5] for number, tokens in enumerate(said))
    assert afterwards == expected
    assert _running_becomes_none(server)


def _running_becomes_none(server, seconds=20):
    """Whether those that hung up are no longer computed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = server.text("/metrics").splitlines()
        running = [line for line in lines if line.startswith("vllm:num_requests_running{")]
        if running and all(float(line.split()[-1]) == 0 for line in running):
            return True
        time.sleep(0.5)
    return False
