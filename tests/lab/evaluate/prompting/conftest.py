"""The embedded model's tokenizer, as it is and with chat templates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from transformers import AutoTokenizer

from emokernel.affect import Coordinates
from emokernel.demo.model import MODEL_PATH, openings
from emokernel.lab.evaluate.prompting import Prompting, prompting

CHAT = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>"
    "{% endfor %}<assistant>"
)
WITHOUT_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + CHAT
)
FAILING = "{{ raise_exception('no conversations') }}"
TEMPLATES = {"chat": CHAT, "without system": WITHOUT_SYSTEM, "failing": FAILING}


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL_PATH, local_files_only=True)


@pytest.fixture(scope="session")
def made(tokenizer) -> Callable[..., Prompting]:
    """``made(kind)``: prompts for "embedded", "plain", or a chat template of `TEMPLATES`."""

    @cache
    def usual(kind: str) -> Prompting:
        return make(kind, openings=openings())

    def make(kind: str, **more: Any) -> Prompting:
        if not more:
            return usual(kind)
        own = copy.deepcopy(tokenizer)
        own.chat_template = TEMPLATES.get(kind)
        given = {"openings": openings(), "coordinates": Coordinates.named("russell")} | more
        return prompting(own, embedded=kind == "embedded", **given)

    return make
