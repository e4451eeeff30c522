"""What each body may say, and what is told of one that is wrong."""

from __future__ import annotations

import base64

import pytest
from pydantic import ValidationError
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.completion import CompletionHandler
from transformers.cli.serving.response import ResponseHandler
from transformers.cli.serving.utils import Modality

from emokernel import Affect, EmokernelError, Request
from emokernel.serve.front.invalid import invalid
from emokernel.serve.front.limits import Limits
from emokernel.serve.schemas.chat import ChatBody
from emokernel.serve.schemas.completions import CompletionBody
from emokernel.serve.schemas.handled import check_model, to_handler
from emokernel.serve.schemas.responses import ResponseBody

SAYS = [{"role": "user", "content": "Hello"}]
CHAT, COMPLETION, RESPONSE = {"messages": SAYS}, {"prompt": "Hello"}, {"input": "Hello"}
ROUTES = [(ChatBody, CHAT), (CompletionBody, COMPLETION), (ResponseBody, RESPONSE)]
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n....").decode()


def told(kind, body):
    """(The sentence, the field) of a refusal."""
    with pytest.raises((ValidationError, EmokernelError)) as raised:
        to_handler(kind.model_validate(body))
    error = raised.value
    if isinstance(error, ValidationError):
        error = invalid(error.errors())
    assert len(str(error)) < 400
    assert "\n" not in str(error)
    return str(error), error.param


HARMLESS = {
    "user": "me", "stream_options": {"include_usage": True}, "model": "any", "temperature": 0,
    "top_p": 1, "seed": 7, "stream": False,
}  # fmt: skip
OLDER = {
    "n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "stop": ["x"],
}  # fmt: skip
NEWER = {
    "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "safety_identifier": "s",
    "prompt_cache_key": "k", "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "top_logprobs": 0,
}  # fmt: skip
SENT = [
    (ChatBody, CHAT, {
        **HARMLESS, **OLDER, **NEWER, "response_format": {"type": "text"}, "logprobs": False,
        "modalities": ["text"], "max_completion_tokens": 5,
    }),
    (CompletionBody, COMPLETION, {
        **HARMLESS, **OLDER, "best_of": 1, "echo": False, "logprobs": None, "suffix": None,
        "max_tokens": 5,
    }),
    (ResponseBody, RESPONSE, {
        **HARMLESS, **NEWER, "background": False, "include": [], "truncation": "disabled",
        "text": {"format": {"type": "text"}}, "reasoning": {"effort": None}, "max_output_tokens": 5,
    }),
]  # fmt: skip
HANDLERS = {
    ChatBody: ChatCompletionHandler, CompletionBody: CompletionHandler,
    ResponseBody: ResponseHandler,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "least", "more"), SENT)
def test_what_changes_no_answer_is_taken_and_goes_no_further(kind, least, more):
    given = to_handler(kind.model_validate(least | more))
    handler = HANDLERS[kind]
    assert not given.keys() - handler._valid_params_class.__mutable_keys__
    assert not given.keys() & handler._unused_fields
    assert {name: given[name] for name in ("temperature", "top_p", "seed", "stream")} == {
        "temperature": 0, "top_p": 1, "seed": 7, "stream": False,
    }  # fmt: skip
    assert 5 in (given.get("max_tokens"), given.get("max_completion_tokens"),
                 given.get("max_output_tokens"))  # fmt: skip
    assert given.get("stop") == (None if kind is ResponseBody else ["x"])


@pytest.mark.parametrize(("kind", "least", "more"), SENT)
def test_null_is_as_good_as_nothing(kind, least, more):
    given = to_handler(kind.model_validate(least | dict.fromkeys(more)))
    assert given == to_handler(kind.model_validate(least))


@pytest.mark.parametrize(
    ("kind", "least", "wrong"),
    [
        *[(ChatBody, CHAT, each) for each in (
            {"response_format": {"type": "json_object"}}, {"logprobs": True}, {"top_logprobs": 2},
            {"tool_choice": "required"}, {"tool_choice": {"type": "function"}}, {"audio": {}},
            {"modalities": ["audio"]}, {"parallel_tool_calls": False}, {"functions": [{}]},
            {"reasoning_effort": "high"}, {"web_search_options": {}}, {"verbosity": "low"},
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
            {"prediction": {"type": "content", "content": "x"}},
        )],
        *[(CompletionBody, COMPLETION, each) for each in (
            {"best_of": 2}, {"echo": True}, {"echo": 0}, {"best_of": True},
            {"logprobs": 0}, {"suffix": "x"},
            {"prompt": ["a", "b"]}, {"prompt": [1, 2]}, {"prompt": [[1]]},
        )],
        *[(ResponseBody, RESPONSE, each) for each in (
            {"background": True}, {"background": 0}, {"parallel_tool_calls": 1},
            {"include": ["x"]}, {"previous_response_id": "x"},
            {"conversation": "x"}, {"truncation": "auto"}, {"reasoning": {"effort": "high"}},
            {"text": {"format": {"type": "json_schema"}}}, {"stop": "x"}, {"max_tokens": 5},
        )],
        *[(kind, least, each) for kind, least in ROUTES[:2] for each in (
            {"n": 2}, {"presence_penalty": 0.1}, {"frequency_penalty": -1},
            {"n": True}, {"presence_penalty": False}, {"n": "1"},
            {"logit_bias": {"5": 1}}, {"stop": [""]}, {"stop": ["a"] * 5},
            {"stop": "x" * 65}, {"stop": [1]},
        )],
        *[(kind, least, each) for kind, least in ROUTES for each in (
            {"temperature": -0.1}, {"temperature": 2.1}, {"temperature": "1"},
            {"temperature": True}, {"temperature": float("nan")}, {"temperature": 10**400},
            {"top_p": 0}, {"top_p": 1.1}, {"seed": -1}, {"seed": 1.5}, {"seed": 2**53 + 1},
            {"seed": True}, {"seed": "1"}, {"stream": "true"}, {"stream": 1}, {"stream": []},
            {"stream_options": {"include_obfuscation": 0.0}},
            {"model": 1}, {"model": "x" * 201}, {"user": "x" * 201}, {"metadata": {"a": 1}},
            {"generation_config": "{}"}, {"chat_template_kwargs": {}}, {"nonsense": 1},
            {"strength": True}, {"strength": "1"}, {"strength": float("inf")}, {"strength": None},
            {"valence": 2}, {"intensity": -1}, {"law": "nonsense"}, {"positions": 5}, {"dose": []},
        )],
    ],
    ids=lambda given: str(given)[:40],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_the_name_of_its_field(kind, least, wrong):
    message, field = told(kind, least | wrong)
    name = next(iter(wrong))
    assert field.split(".")[0].split("[")[0] == name
    assert name in message


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", [0, -1, 4097, 10**30, 1.0, True, "5"])
def test_the_length_of_an_answer_is_bounded(name, value):
    assert told(ChatBody, CHAT | {name: value})[1] == name


def test_an_answer_has_the_length_that_is_said_or_what_all_have():
    for body, limits, tokens in (
        (CHAT, Limits(), {"max_tokens": 1024}),
        (CHAT, Limits(max_tokens=10), {"max_tokens": 10}),
        (CHAT | {"max_completion_tokens": 7}, Limits(), {"max_completion_tokens": 7}),
        (CHAT | {"max_completion_tokens": 7, "max_tokens": 7}, Limits(),
         {"max_completion_tokens": 7}),
    ):  # fmt: skip
        given = to_handler(ChatBody.model_validate(body), limits)
        assert {name: value for name, value in given.items() if "tokens" in name} == tokens
    assert told(ChatBody, CHAT | {"max_completion_tokens": 7, "max_tokens": 8})[1] == "max_tokens"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "the body has no 'messages': give it"),
        ({"messages": []}, "messages needs at least 1, got 0"),
        ({"messages": "x"}, "messages must be a list, got 'x'"),
        (CHAT | {"temperature": 3}, "temperature must be at most 2, got 3"),
        (CHAT | {"temperature": "warm"}, "temperature must be a number, got 'warm'"),
        (CHAT | {"n": 2}, "n can only be 1 here, got 2: change it"),
        (CHAT | {"audio": {}}, "'audio' cannot be carried out here: leave it out"),
        (CHAT | {"x" * 500: 1}, f"'{'x' * 100}…' is no field that this server knows: leave it out"),
        ({"messages": [{"role": "user"}]}, "the body has no 'messages[0].content': give it"),
        ({"messages": [{"role": "king", "content": "x"}]},
         "messages[0] must be an object whose role is one of system, developer, user, assistant,"
         " tool, got an object"),
        ({"messages": [*SAYS, {"role": "user", "content": [{"type": "text", "text": 1}]}]},
         "messages[1].content[0].text must be a text, got 1"),
        ({"messages": [{"role": "user", "content": "x", "nonsense": 1}]},
         "'messages[0].nonsense' is no field that this server knows: leave it out"),
        (CHAT | {"stop": "y" * 100},
         "stop must be at most 64 characters long, got a text of 100 characters"),
    ],
)  # fmt: skip
def test_the_sentence_names_the_field_what_is_wrong_and_what_to_give(body, says):
    assert told(ChatBody, body)[0] == says


# Emotions


@pytest.mark.parametrize(("kind", "least"), ROUTES)
def test_an_emotion_is_what_the_fields_say(kind, least):
    asked = kind.model_validate(
        least | {"emotion": "joy", "strength": 0.5, "law": "add", "positions": "last"}
    ).asked()
    assert asked == Request("joy", 0.5, "add", None, "last")
    assert kind.model_validate(least).asked() is None
    assert kind.model_validate(least | {"emotion": None}).asked() == Request(None)
    point = {"valence": 0.5, "arousal": 1, "intensity": 0.5}
    for said in ({"emotion": point}, point):
        assert kind.model_validate(least | said).asked() == Request(Affect(0.25, 0.5))
    mix = kind.model_validate(least | {"emotion": {"joy": 0.5, "fear": -1}}).asked()
    assert mix == Request({"joy": 0.5, "fear": -1})
    far = {"valence": 10**300, "arousal": 0, "intensity": 10**300}
    for wrong in (
        {"strength": 1.0}, {"valence": 0.5}, {"emotion": "joy", "valence": 0.1}, {"emotion": far},
        {"emotion": ["joy"]}, {"emotion": {"valence": True, "arousal": 0}},
    ):  # fmt: skip
        with pytest.raises(EmokernelError):
            kind.model_validate(least | wrong).asked()
    assert "emotion" not in to_handler(kind.model_validate(least | {"emotion": "joy"}))


def test_another_model_than_the_one_that_is_served_is_404():
    body = ChatBody.model_validate(CHAT | {"model": "gpt-7"})
    with pytest.raises(EmokernelError, match=r"no model 'gpt-7' here: this server has 'embedded'"):
        check_model(body, "embedded")
    check_model(body, "gpt-7")
    check_model(ChatBody.model_validate(CHAT), "embedded")


# Messages

ELSEWHERE = [
    "file:///etc/passwd", "/etc/passwd", "http://127.0.0.1/x.png", "https://example.org/x.png",
    "../x.png", "ftp://x/y", "FILE:///x", "data:text/html;base64,AAAA", "data:image/png,AAAA",
    "data:image/svg+xml;base64,AAAA", "data:image/png;base64,", "data:image/png;base64,/etc/../x",
    "data:image/png;base64,A", "data:image/png;base64,AAAA\n", " " + PNG, "",
]  # fmt: skip


@pytest.mark.parametrize("address", ELSEWHERE)
def test_no_picture_is_fetched_or_opened(address):
    parts = [{"type": "image_url", "image_url": {"url": address}}]
    message, field = told(ChatBody, {"messages": [{"role": "user", "content": parts}]})
    assert field == "messages[0].content[0].image_url.url"
    assert len(message) < 300
    item = {"type": "input_image", "image_url": address}
    told(ResponseBody, {"input": [item]})
    told(ResponseBody, {"input": [{"role": "user", "content": [item]}]})


@pytest.mark.parametrize(
    "part",
    [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
     {"type": "audio_url", "audio_url": {"url": "file:///etc/passwd"}},
     {"type": "video_url", "video_url": {"url": "http://127.0.0.1/"}},
     {"type": "file", "file": {"file_id": "x"}}, {"type": "input_file", "file_url": "http://x"},
     {"type": "image", "url": "/etc/passwd"}, {"type": "text", "text": "x", "url": "/etc/passwd"},
     {"type": ["text"], "text": "x"}, {"text": "x"}, "x", None],
)  # fmt: skip
def test_other_parts_are_refused(part):
    told(ChatBody, {"messages": [{"role": "user", "content": [part]}]})
    told(ResponseBody, {"input": [{"role": "user", "content": [part]}]})


def test_a_picture_within_the_body_reaches_a_model_that_sees():
    part = {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}
    body = {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "what?"}]}]}
    given = to_handler(ChatBody.model_validate(body), pictures=True)
    processed = ChatCompletionHandler.get_processor_inputs_from_messages(
        given["messages"], Modality.VLM
    )
    assert processed[0]["content"] == [
        {"type": "image", "url": PNG}, {"type": "text", "text": "what?"},
    ]  # fmt: skip
    assert told(ChatBody, body)[0] == "this model sees no pictures: send texts alone"
    item = {"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}
    given = to_handler(ResponseBody.model_validate({"input": [item]}), pictures=True)
    assert given["input"][0]["content"] == [{"type": "input_image", "image_url": PNG}]


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def test_a_chat_is_what_the_handler_reads():
    function = {"name": "f", "parameters": {"type": "object"}}
    body = {
        "messages": [
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "a"}], "name": "me"},
            {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None,
             "audio": None, "function_call": None, "annotations": []},
            {"role": "tool", "content": "5", "tool_call_id": "c1"},
            {"role": "assistant", "content": "five", "tool_calls": None},
        ],
        "tools": [{"type": "function", "function": function}],
    }  # fmt: skip
    given = to_handler(ChatBody.model_validate(body))
    read = ChatCompletionHandler.get_processor_inputs_from_messages(given["messages"], Modality.LLM)
    assert [(turn["role"], turn["content"]) for turn in read] == [
        ("system", "be kind"), ("user", "a"), ("assistant", ""), ("tool", "5"),
        ("assistant", "five"),
    ]  # fmt: skip
    assert read[2]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"a": 1}}
    assert given["tools"] == body["tools"]
    body["tool_choice"] = "none"
    assert "tools" not in to_handler(ChatBody.model_validate(body))


@pytest.mark.parametrize(
    "arguments", ["", "x", "[]", "1", '{"a":NaN}', '{"a":1,"a":2}', "[" * 1000, '{"a":' * 100]
)
def test_arguments_that_no_template_can_read_are_refused(arguments):
    call = CALL | {"function": {"name": "f", "arguments": arguments}}
    body = {"messages": [{"role": "assistant", "tool_calls": [call]}]}
    assert told(ChatBody, body)[1] == "messages[0].tool_calls[0].function.arguments"
    item = {"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments}
    assert told(ResponseBody, {"input": [*SAYS, item]})[1] == "input[1].arguments"


@pytest.mark.parametrize(
    "message",
    [{"role": "assistant"}, {"role": "assistant", "tool_calls": []}, {"role": "user"},
     {"role": "tool", "content": "x"}, {"role": "user", "content": None}, {"content": "x"},
     {"role": "user", "content": []}, {"role": "tool", "tool_call_id": "a", "content": [1]}, [], 1],
)  # fmt: skip
def test_messages_that_say_nothing_are_refused(message):
    told(ChatBody, {"messages": [message]})


def test_the_schema_of_a_tool_is_bounded():
    tool = {"type": "function", "function": {"name": "f", "parameters": {"x": "y" * 70_000}}}
    assert "send less" in told(ChatBody, CHAT | {"tools": [tool]})[0]
    tool["function"] = {"name": "f" * 65}
    assert told(ChatBody, CHAT | {"tools": [tool]})[1] == "tools[0].function.name"


def test_a_prompt_is_bounded():
    for kind, body in (
        (ChatBody, {"messages": [{"role": "user", "content": "x" * 60}] * 2}),
        (CompletionBody, {"prompt": "x" * 101}),
        (ResponseBody, {"input": "x" * 60, "instructions": "y" * 60}),
    ):
        with pytest.raises(EmokernelError, match="characters, 100 at most"):
            to_handler(kind.model_validate(body), Limits(prompt_characters=100))
        to_handler(kind.model_validate(body), Limits(prompt_characters=130))


# Responses


def turns(body):
    """What transformers' handler makes of it."""
    given = to_handler(ResponseBody.model_validate(body))
    messages = ResponseHandler._normalize_input(given)
    read = ResponseHandler.get_processor_inputs_from_messages(messages, Modality.LLM)
    return [(turn["role"], turn["content"]) for turn in read]


def test_input_may_be_a_text_parts_or_a_conversation():
    assert turns({"input": "a"}) == [("user", "a")]
    assert turns({"input": [{"type": "input_text", "text": "a"}]}) == [("user", "a")]
    said = [
        {"role": "user", "content": "a"},
        {"type": "reasoning", "id": "r", "summary": [], "content": None},
        {"type": "message", "id": "m", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "b", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "i"},
        {"type": "function_call_output", "call_id": "c", "output": "5"},
    ]  # fmt: skip
    assert turns({"input": said}) == [
        ("user", "a"), ("assistant", ""), ("tool", "5"),
    ]  # fmt: skip
    assert turns({"input": said[:3]}) == [("user", "a"), ("assistant", "b")]


def test_instructions_do_not_replace_what_the_system_message_says():
    system = {"role": "system", "content": "speak low"}
    assert turns({"input": [system, *SAYS], "instructions": "be kind"}) == [
        ("system", "be kind\n\nspeak low"), ("user", "Hello"),
    ]  # fmt: skip
    assert turns({"input": "a", "instructions": "be kind"}) == [
        ("system", "be kind"), ("user", "a"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [[], [{"type": "reasoning", "summary": []}], 1, None, "", [[]], [{"type": "item_reference"}],
     [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}],
     [*SAYS, {"type": "input_text", "text": "x"}], [{"role": "tool", "content": "x"}]],
)  # fmt: skip
def test_input_that_is_no_conversation_is_refused(given):
    assert told(ResponseBody, {"input": given})[1].startswith("input")


def test_tools_of_responses_are_what_the_handler_reads():
    tool = {"type": "function", "name": "f", "description": None, "parameters": {}, "strict": False}
    given = to_handler(ResponseBody.model_validate(RESPONSE | {"tools": [tool]}))
    assert ResponseHandler._normalize_tools(given["tools"]) == [
        {"type": "function", "function": {"name": "f", "parameters": {}}}
    ]


@pytest.mark.parametrize(("kind", "least"), ROUTES)
def test_an_answer_is_streamed_if_that_is_asked_for(kind, least):
    assert to_handler(kind.model_validate(least))["stream"] is False
    assert to_handler(kind.model_validate(least | {"stream": True}))["stream"] is True


@pytest.mark.parametrize(("kind", "body"), ROUTES)
def test_what_fp32_cannot_divide_by_or_sum_up_is_the_likeliest_token(kind, body):
    said = to_handler(kind.model_validate({**body, "temperature": 1e-40, "top_p": 1e-300}))
    assert said["temperature"] == 0
    assert said["top_p"] == pytest.approx(1e-6)
    said = to_handler(kind.model_validate({**body, "temperature": 0.01, "top_p": 0.01}))
    assert (said["temperature"], said["top_p"]) == (0.01, 0.01)
