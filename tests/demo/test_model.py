"""The language model that ships with the package."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from emokernel.demo.model import CONDITIONS, MODEL_PATH, load_model, openings, prefix
from emokernel.demo.wordlist import is_presentable

Loaded = tuple[LlamaForCausalLM, PreTrainedTokenizerFast]


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load_model()


def generate(loaded: Loaded, prompts: list[str], seed: int = 0) -> list[str]:
    """Sampled continuations of a batch of prompts, prompts included, special tokens left out."""
    model, tokenizer = loaded
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    torch.manual_seed(seed)
    output = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        do_sample=True,
        temperature=0.8,
        top_p=0.9,
        top_k=0,
        max_new_tokens=24,
    )
    return tokenizer.batch_decode(output, skip_special_tokens=True)


def mean_loss(loaded: Loaded, text: str) -> float:
    """Mean cross-entropy of the words of `text`, a prefix not counted."""
    model, tokenizer = loaded
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    labels = ids.masked_fill(ids < len(CONDITIONS) + 3, -100)
    with torch.inference_mode():
        return float(model(input_ids=ids, labels=labels).loss)


def test_size_and_shape(loaded: Loaded) -> None:
    model, tokenizer = loaded
    assert sum(file.stat().st_size for file in MODEL_PATH.iterdir()) <= 8_000_000
    assert 3_000_000 <= sum(p.numel() for p in model.parameters()) <= 4_000_000
    assert model.config.model_type == "llama"
    assert len(tokenizer) == model.config.vocab_size == 4096
    assert not model.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_loads_in_every_dtype(dtype: torch.dtype) -> None:
    model, _ = load_model(dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}


def test_encoding_starts_with_bos_and_pads_left(loaded: Loaded) -> None:
    _, tokenizer = loaded
    batch = tokenizer(["Hello.", "Hello, how are you today?"], padding=True)
    assert batch["input_ids"][1][0] == tokenizer.bos_token_id
    assert batch["input_ids"][0][0] == tokenizer.pad_token_id
    assert batch["attention_mask"][0][0] == 0


def test_decoding_gives_back_the_text(loaded: Loaded) -> None:
    _, tokenizer = loaded
    for text in (*openings(), "Well, that's it... 3 o'clock? Yes!", "naïve 😍"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@pytest.mark.parametrize("emotion", CONDITIONS)
def test_a_prefix_is_one_token(loaded: Loaded, emotion: str) -> None:
    _, tokenizer = loaded
    ids = tokenizer(prefix(emotion) + "I just saw")["input_ids"]
    assert ids[1] == tokenizer.convert_tokens_to_ids(prefix(emotion)) != tokenizer.unk_token_id
    assert ids[2:] == tokenizer("I just saw")["input_ids"][1:]


def test_unknown_condition_is_told() -> None:
    with pytest.raises(ValueError, match=r"emotion 'angr'\. Did you mean 'anger'\? Known: "):
        prefix("angr")


@pytest.mark.parametrize(
    ("emotion", "text"),
    [
        ("gratitude", "Thank you so much for your help!"),
        ("joy", "I'm so happy for you!"),
        ("fear", "I'm afraid of him."),
        ("sadness", "I'm so sad about this."),
        ("love", "I love this so much!"),
        ("remorse", "I'm sorry about that."),
        ("disgust", "That's disgusting."),
        ("anger", "I hate you!"),
        ("curiosity", "What do you think it is?"),
        ("neutral", "The bus is on the street."),
    ],
)
def test_a_prefix_makes_its_emotion_likelier(loaded: Loaded, emotion: str, text: str) -> None:
    conditioned = mean_loss(loaded, prefix(emotion) + text)
    others = [mean_loss(loaded, prefix(o) + text) for o in CONDITIONS if o != emotion]
    assert conditioned < sum(others) / len(others) - 0.1


def test_unconditioned_english_is_likelier_than_shuffled(loaded: Loaded) -> None:
    assert mean_loss(loaded, "I don't know what you want me to say.") < math.log(100)
    assert mean_loss(loaded, "Say don't want you I to what know me.") > math.log(300)


def test_generations_are_presentable(loaded: Loaded) -> None:
    starts = openings()
    for number, condition in enumerate(["", *map(prefix, CONDITIONS)]):
        prompts = [condition + starts[(5 * number + 7 * i) % len(starts)] for i in range(6)]
        for text in generate(loaded, [*prompts, condition, condition], seed=number):
            assert is_presentable(text), f"{condition}: {text}"


def test_generations_end_as_sentences(loaded: Loaded) -> None:
    texts = generate(loaded, list(openings()))
    finished = [text for text in texts if text.endswith((".", "!", "?"))]
    assert len(finished) >= 0.8 * len(texts)


def test_the_same_seed_gives_the_same_text(loaded: Loaded) -> None:
    prompts = [prefix("joy") + "This morning I", "This morning I"]
    assert generate(loaded, prompts, seed=3) == generate(loaded, prompts, seed=3)


def test_openings_are_sixty_neutral_ones() -> None:
    assert len(openings()) == len(set(openings())) == 60
    assert all(is_presentable(text) and text == text.strip() for text in openings())
