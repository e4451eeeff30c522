"""One prompt under several emotions: sides that differ by the emotion alone."""

from __future__ import annotations

import asyncio
import copy
from functools import wraps
from types import SimpleNamespace

import pytest
from serve.emotions.served import COMPARE, PROMPT, Comparing, Served, asking, compared
from serve.front.calls import ask, is_refusal
from transformers import LlamaConfig, MambaConfig

from emokernel import Affect, EmokernelError, Request
from emokernel.lab.measure.sampling import Sampling, Writing
from emokernel.serve.emotions.context import context_of, length_of
from emokernel.serve.emotions.schemas import CompareBody
from emokernel.serve.front.limits import Limits

SIDES = [
    None,
    "joy",
    {"valence": -0.7, "arousal": 0.7, "strength": 0.8},
    {"emotion": {"sadness": 0.5, "fear": 0.5}, "positions": "generated", "law": "add"},
    {"emotion": None},
]
REQUESTS = [
    None, Request("joy"), Request(Affect(-0.7, 0.7), 0.8),
    Request({"sadness": 0.5, "fear": 0.5}, positions="generated", law="add"), None,
]  # fmt: skip


def continued(tokenizer, ids, steps, side):
    """The text of a side of the ``steps`` of a `Writing`."""
    new = [tokens[side] for tokens in steps if side in tokens]
    before = tokenizer.decode(ids, skip_special_tokens=True)
    return tokenizer.decode(ids + new, skip_special_tokens=True)[len(before) :]


def test_the_sides_are_the_rows_of_one_batch(served, embedded):
    model, tokenizer, steering = embedded
    call = compared(served, asking(emotions=SIDES, max_tokens=20, seed=5))
    assert call.answer.status == 200
    assert call.answer.head["content-type"].startswith("text/event-stream")
    ids = tokenizer(PROMPT)["input_ids"]
    steps = list(Writing(
        model, tokenizer, [ids] * 5, Sampling(20), seeds=[(5,)] * 5, steering=steering,
        requests=REQUESTS, one_shape=True,
    ))  # fmt: skip
    assert call.texts == [continued(tokenizer, ids, steps, side) for side in range(5)]
    assert len(set(call.texts)) == 4
    assert call.texts[0] == call.texts[4]
    assert served.metrics.requests == [(COMPARE, 200, True)]


def test_the_side_without_an_emotion_is_what_an_unsteered_model_writes(served, embedded):
    model, tokenizer, _ = embedded
    ids = tokenizer(PROMPT)["input_ids"]
    plain = list(Writing(
        model, tokenizer, [ids] * 3, Sampling(30), seeds=[(8,)] * 3, one_shape=True
    ))  # fmt: skip
    wanted = continued(tokenizer, ids, plain, 0)
    for others in (["joy", "fear"], [{"emotion": "anger", "strength": 2}, None]):
        call = compared(served, asking(emotions=[None, *others], seed=8, max_tokens=30))
        assert call.texts[0] == wanted


def test_every_forward_has_every_side(served, embedded, monkeypatch):
    """Those that are alike and those that have ended too: shapes decide over last bits."""
    model, rows, forward = embedded[0], [], embedded[0].forward

    @wraps(forward)
    def watched(*args, **kwargs):
        rows.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", watched)
    call = compared(served, asking(emotions=[None, None, "joy"], max_tokens=30))
    ends = [event["step"] for event in call.events if event["type"] == "end"]
    assert ends[0] < ends[-1]
    assert rows == [3] * (ends[-1] + 1)


def test_events_come_in_their_order(served):
    call = compared(served, asking(max_tokens=30))
    kinds = [event["type"] for event in call.events]
    assert kinds[0] == "start"
    assert kinds[-1] == "done"
    assert kinds.count("end") == 3
    assert call.answer.body.endswith(b"}\n\ndata: [DONE]\n\n")
    start, *middle, done = call.events
    assert len(start["stream"]) >= 43
    assert (start["model"], start["seed"], start["max_tokens"]) == ("embedded", 3, 30)
    order = [(event["step"], event["side"]) for event in middle]
    assert order == sorted(order)
    times = [event["at"] for event in call.events[1:]]
    assert times == sorted(times)
    written = 0
    for side in range(3):
        *texts, end = [event for event in middle if event["side"] == side]
        assert end["type"] == "end"
        assert len(texts) <= end["tokens"] <= 30
        assert end["reason"] == ("length" if end["tokens"] == 30 else "stop")
        written += end["tokens"]
    read = start["prompt_tokens"]
    assert done["usage"] == {
        "prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written
    }  # fmt: skip
    assert served.metrics.tokens[True] + served.metrics.tokens[False] == written
    assert served.metrics.prompts == {True: 2 * read, False: read}


def test_what_is_understood_is_told(served):
    start = compared(served, asking(emotions=SIDES, max_tokens=1)).events[0]
    nothing, joy, point, mix, also_nothing = start["emotions"]
    assert nothing is None
    assert also_nothing is None
    assert joy["emotion"] == "joy"
    assert list(joy["mix"]) == ["joy"]
    assert joy["strength"] == 1.0
    assert (joy["law"], joy["dose"], joy["positions"]) == ("preserve", "absolute", "all")
    assert joy["place"]["valence"] > 0.9
    assert point["emotion"] == point["place"] == {"valence": -0.7, "arousal": 0.7}
    assert set(point["mix"]) == {"fear", "disgust"}
    assert (mix["law"], mix["positions"]) == ("add", "generated")
    assert mix["emotion"] == {"sadness": 0.5, "fear": 0.5}


def test_a_side_that_is_as_long_as_it_may_be_says_so(served):
    call = compared(served, asking(max_tokens=1))
    ends = [event for event in call.events if event["type"] == "end"]
    assert [(end["reason"], end["tokens"], end["step"]) for end in ends] == [("length", 1, 0)] * 3


def test_a_seed_gives_the_same_texts_again(served):
    first = compared(served, asking(seed=None))
    seed = first.events[0]["seed"]
    assert compared(served, asking(seed=seed)).texts == first.texts
    assert compared(served, asking(seed=2**53)).answer.status == 200
    others = {tuple(compared(served, asking(seed=None)).texts) for _ in range(3)}
    assert others != {tuple(first.texts)}


def test_compares_at_the_same_time_do_not_disturb_each_other(served):
    bodies = [asking(seed=seed, emotions=["joy", None, side]) for seed, side in
              enumerate(("fear", "anger", None, "love"))]  # fmt: skip
    alone = [compared(served, body).texts for body in bodies]

    async def together():
        calls = [Comparing(body) for body in bodies]
        await asyncio.gather(*(call.serve(served.app) for call in calls))
        return [call.texts for call in calls]

    assert asyncio.run(together()) == alone


def test_nothing_is_computed_on_the_event_loop(served):
    compared(served, asking())
    assert len(served.turns.threads) > 1
    assert all(name.startswith("compare") for name in served.turns.threads)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"emotions": []}, "emotions needs at least 1"),
        ({"emotions": [None] * 17}, "emotions has at most 16 sides, got 17"),
        ({"emotions": ["joyy"]}, "emotions[0]: unknown emotion 'joyy'. Did you mean 'joy'?"),
        ({"emotions": [None, 3]}, "emotions[1] must be an object, got 3"),
        ({"emotions": [{"emotion": "joy", "strength": "1"}]}, "emotions[0].strength must be a num"),
        ({"emotions": [{"emotion": "joy", "strength": True}]}, "emotions[0].strength must be a nu"),
        ({"emotions": [{"emotion": "joy", "mood": 1}]}, "'emotions[0].mood' is no field"),
        ({"emotions": [{"emotion": {"joy": "x"}}]}, "emotions[0]: the weight of 'joy' must be"),
        (
            {"emotions": [{"emotion": "joy", "law": "sub"}]},
            "emotions[0].law can only be 'preserve'",
        ),
        ({"emotions": [{"strength": 2}]}, "emotions[0]: strength without emotion"),
        ({"emotions": [{"valence": 1, "arousal": 1}]}, "not a point within the unit circle"),
        ({"emotions": "joy"}, "emotions must be a list"),
        ({"prompt": None}, "give either prompt or messages"),
        ({"prompt": ""}, "prompt must be at least 1 characters long"),
        ({"prompt": 3}, "prompt must be a text"),
        ({"messages": [{"role": "user", "content": "x"}]}, "give either prompt or messages"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**53 + 1}, "seed must be at most"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"temperature": 2.1}, "temperature must be at most 2"),
        ({"top_p": 0}, "top_p must be more than 0"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"max_tokens": 4097}, "max_tokens must be at most 4096"),
        ({"max_tokens": 254}, "ask for max_tokens of 252 at most"),
        ({"prompt": "so " * 400}, "send a shorter one"),
        ({"mood": 1}, "'mood' is no field"),
        ({"system": "Be kind."}, "this model has no chat template, so it takes no system"),
        ({"prompt": None, "messages": [{"role": "user", "content": "x"}]}, "it takes no messages"),
        ({"prompt": None, "messages": [{"role": "judge", "content": "x"}]}, "messages[0].role can"),
        ({"prompt": None, "messages": []}, "messages needs at least 1"),
    ],
)
def test_what_cannot_be_compared_is_a_bad_request(served, fields, message):
    call = compared(served, asking(**fields))
    assert call.answer.status == 400
    assert is_refusal(call.answer)
    assert message in call.answer.json["detail"]
    assert not served.turns.threads


def test_another_model_is_not_here(served):
    assert compared(served, asking(model="embedded")).answer.status == 200
    assert compared(served, asking(model="other")).answer.status == 404


def test_limits_are_those_of_the_server(embedded):
    served = Served(*embedded, limits=Limits(sides=2, max_tokens=5, prompt_characters=20))
    for fields in ({"max_tokens": 6, "emotions": [None]}, {"emotions": [None] * 3},
                   {"prompt": "x" * 21, "emotions": [None], "max_tokens": 5}):  # fmt: skip
        assert compared(served, asking(**fields)).answer.status == 400
    call = compared(served, asking(emotions=[None], max_tokens=None))
    assert call.events[0]["max_tokens"] == 5


def test_a_want_of_slots_is_told_as_such(served, embedded):
    names = ["anger", "disgust", "fear", "joy", "sadness", "surprise", "love", "caring", "remorse"]
    call = compared(served, asking(emotions=names))
    assert call.answer.status == 503
    assert "no more slots" in call.answer.json["detail"]
    assert compared(served, asking(emotions=names[:8])).answer.status == 200


TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' and loop.first %}"
    "{{ raise_exception('begin with the user') }}{% endif %}"
    "{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture
def chats(embedded):
    """A server whose model has a chat template."""
    model, tokenizer, steering = embedded
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = TEMPLATE
    return Served(model, tokenizer, steering), tokenizer


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ({"prompt": "Hello."}, "user: Hello.\nassistant:"),
        ({"prompt": "Hi.", "system": "Be kind."}, "system: Be kind.\nuser: Hi.\nassistant:"),
        (
            {"messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"},
                          {"role": "user", "content": "C"}]},
            "user: A\nassistant: B\nuser: C\nassistant:",
        ),
    ],
)  # fmt: skip
def test_a_chat_model_reads_its_template(chats, fields, read):
    served, tokenizer = chats
    body = CompareBody(emotions=[None], **fields)
    context = context_of(tokenizer, body)
    assert context.ids == tokenizer(read, add_special_tokens=False)["input_ids"]
    assert not context.continued
    call = compared(served, fields | {"emotions": [None, "joy"], "max_tokens": 4})
    assert call.events[0]["prompt_tokens"] == len(context.ids)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": [{"role": "assistant", "content": "A"}]}, "begin with the user"),
        (
            {"messages": [{"role": "system", "content": "A"}], "system": "B"},
            "give the system message once",
        ),
    ],
)
def test_a_chat_that_its_template_refuses_is_a_bad_request(chats, fields, message):
    call = compared(chats[0], fields | {"emotions": [None]})
    assert call.answer.status == 400
    assert message in call.answer.json["detail"]


def test_a_chat_of_which_its_template_makes_nothing_is_a_bad_request(chats):
    served, tokenizer = chats
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    messages = [{"role": "user", "content": ""}]
    call = compared(served, {"messages": messages, "emotions": [None]})
    assert call.answer.status == 400
    assert "no token for this model" in call.answer.json["detail"]


def test_as_many_tokens_are_written_as_there_is_room_for():
    model = SimpleNamespace(config=LlamaConfig(max_position_embeddings=100))
    assert length_of(model, 40, None, 50) == 50
    assert length_of(model, 90, None, 50) == 10
    assert length_of(model, 90, 10, 50) == 10
    for prompt, asked in ((90, 11), (100, None), (200, 1)):
        with pytest.raises(EmokernelError, match="the model reads 100"):
            length_of(model, prompt, asked, 50)
    recurrent = SimpleNamespace(config=MambaConfig())
    assert length_of(recurrent, 10**6, None, 50) == 50
    assert length_of(recurrent, 10**6, 7, 50) == 7


def test_the_route_is_described(served):
    described = ask(served.app, "/openapi.json", method="GET").json
    route = described["paths"][COMPARE]["post"]
    stream = route["responses"]["200"]["content"]["text/event-stream"]
    last, others = stream["itemSchema"]["properties"]["data"]["anyOf"]
    assert last == {"const": "[DONE]"}
    kinds = others["contentSchema"]["oneOf"]
    assert [kind["properties"]["type"]["const"] for kind in kinds] == [
        "start", "text", "changed", "end", "done", "error"
    ]  # fmt: skip
    assert "$ref" not in str(stream)
    assert set(route["responses"]) == {"200", "4XX", "503"}
