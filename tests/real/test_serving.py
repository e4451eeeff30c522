"""`emokernel serve` without arguments: the chat model, its vectors and its judge."""

from __future__ import annotations

import importlib
import statistics

import pytest

from emokernel import Request, patch
from emokernel.demo.models import load_vectors

for package in ("fastapi", "prometheus_client"):
    pytest.importorskip(package, reason="pip install 'emokernel[serve]'")
httpx = pytest.importorskip("httpx", reason="pip install -r requirements-dev.txt")
processes = importlib.import_module("serving.server_process")

CHAT = "/v1/chat/completions"
QUESTION = "How was the party last night?"


@pytest.fixture(scope="module")
def server(smollm2_folder):
    with processes.ServerProcess([], key=None) as running:
        yield running


def ask(server, path, **body):
    answer = httpx.post(server.url + path, json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_it_answers_within_a_minute_as_the_patched_model_does(server, smollm2):
    assert server.ready_after < 60
    model, tokenizer = smollm2
    messages = [{"role": "user", "content": QUESTION}]
    ids = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    steering = patch(model, load_vectors("smollm2"))
    try:
        for body, request in (({}, None), ({"emotion": "joy"}, Request("joy"))):
            with steering.requests([request]):
                output = model.generate(**ids, do_sample=False, max_new_tokens=24)
            new = output[0, ids["input_ids"].shape[1] :]
            found = ask(server, CHAT, messages=messages, max_tokens=24, temperature=0, **body)
            text = tokenizer.decode(new, skip_special_tokens=True)
            assert found["choices"][0]["message"]["content"] == text
            assert found["model"] == "smollm2"
    finally:
        steering.unpatch()


def test_the_judge_reads_what_was_asked_for(server):
    """Texts of joy lie further right on the circle than those of sadness."""

    def valence(emotion):
        messages = [{"role": "user", "content": QUESTION}]
        texts = [
            ask(
                server, CHAT, messages=messages, max_tokens=40, temperature=0.8, seed=seed,
                emotion=emotion, strength=1.5,
            )["choices"][0]["message"]["content"]
            for seed in range(4)
        ]  # fmt: skip
        read = ask(server, "/v1/emotions/read", texts=texts)["data"]
        return statistics.mean(each["place"]["valence"] for each in read)

    assert valence("joy") > valence("sadness") + 0.2
