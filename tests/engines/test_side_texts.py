"""What runs the model within a `generate` beside its text; what `generate` cannot be given."""

from __future__ import annotations

import copy

import pytest
import torch
from engines.oracle import assert_steps, by_hand, teacher_forced
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from emokernel.errors import SteeringError

POSITIONS = ["all", "prompt", "generated", "last"]
OPTIONS = {
    "do_sample": False, "max_new_tokens": 5, "output_logits": True, "output_scores": True,
    "return_dict_in_generate": True,
}  # fmt: skip


def columns(text, width):
    return (torch.arange(text.shape[1]) < width).expand_as(text)


def forced(text, real, width, requests, positions, plain, emotions):
    where = by_hand(positions, real, columns(text, width))
    return teacher_forced(plain, emotions, text, real, width, (requests, where))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_the_text_that_guidance_goes_away_from_has_a_prompt_of_its_own(
    cache, negative, positions, pair, padded, requests_at, emotions
):
    plain, model, steering = pair()
    ids, mask = padded()
    requests, scale = requests_at(positions), 1.5
    away = ids.flip(0)[:, :4] if negative else ids[:, -1:]
    with steering.requests(requests):
        output = model.generate(
            ids, attention_mask=mask, guidance_scale=scale, cache_implementation=cache,
            negative_prompt_ids=away if negative else None, **OPTIONS,
        )  # fmt: skip
    text = output.sequences
    new = text[:, 7:]
    real = torch.cat([mask, torch.ones_like(new)], 1)
    full = forced(text, real, 7, requests, positions, plain, emotions)
    assert_steps(output.logits, full, 7)
    other, width = torch.cat([away, new], 1), away.shape[1]
    other = forced(other, torch.ones_like(other), width, requests, positions, plain, emotions)
    towards, away = full[:, 6:].log_softmax(-1), other[:, width - 1 :].log_softmax(-1)
    guided = scale * (towards[:, :5] - away[:, :5]) + away[:, :5]
    for step, scores in enumerate(output.scores):
        torch.testing.assert_close(scores, guided[:, step], rtol=1e-3, atol=3e-4)


def test_guidance_without_a_cache_is_refused_once_something_is_steered(pair, prompts):
    _, model, steering = pair()
    options = {"guidance_scale": 1.5, "use_cache": False, "max_new_tokens": 3}
    model.generate(prompts, **options)
    steering.set("joy")
    with pytest.raises(SteeringError, match="use_cache=True"):
        model.generate(prompts, **options)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("use_cache", [False, True])
def test_a_processor_that_calls_the_model_does_not_disturb_the_text(
    use_cache, positions, pair, padded, requests_at, emotions
):
    plain, model, steering = pair()
    ids, _ = padded("no")
    requests, seen = requests_at(positions), []

    def look(text, scores):
        with torch.no_grad():
            seen.append(model(text[:, :3]).logits)  # all that a plain call is given is prompt
            own = DynamicCache(config=model.config)
            seen.append(model(text[:, :3], past_key_values=own).logits)
        return scores

    with steering.requests(requests):
        output = model.generate(
            ids, use_cache=use_cache, logits_processor=LogitsProcessorList([look]), **OPTIONS
        )
    real = torch.ones_like(output.sequences)
    full = forced(output.sequences, real, 7, requests, positions, plain, emotions)
    assert_steps(output.logits, full, 7)
    alone = forced(ids[:, :3], real[:, :3], 3, requests, positions, plain, emotions)
    for logits in seen:
        torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)


def test_a_generate_within_a_generate_has_a_prompt_of_its_own(pair, prompts, requests_at, emotions):
    plain, model, steering = pair()
    requests, inner = requests_at("generated"), []

    def look(text, scores):
        inner.append(model.generate(text[:, :4], **OPTIONS))
        return scores

    with steering.requests(requests):
        outer = model.generate(prompts, logits_processor=LogitsProcessorList([look]), **OPTIONS)
    for output, width in ((outer, 7), (inner[0], 4), (inner[-1], 4)):
        text = output.sequences
        real = torch.ones_like(text)
        full = forced(text, real, width, requests, "generated", plain, emotions)
        assert_steps(output.logits, full, width)


def test_nothing_of_a_generate_that_failed_stays(pair, prompts, requests_at, emotions):
    plain, model, steering = pair()
    requests = requests_at("generated")

    def fail(text, scores):
        raise RuntimeError("stop")

    with steering.requests(requests), torch.no_grad():
        with pytest.raises(RuntimeError, match="stop"):
            model.generate(prompts, logits_processor=LogitsProcessorList([fail]), max_new_tokens=2)
        torch.testing.assert_close(model(prompts).logits, plain(prompts).logits)


class Healer:
    """A tokenizer as far as `generate` asks for one before it heals tokens."""

    bos_token_id, pad_token_id = 1, 0

    def get_vocab(self):
        return {"a": 3}

    def decode(self, ids, **_):
        return ["a"] * len(ids) if getattr(ids, "dim", lambda: 0)() == 2 else "a"

    def __call__(self, prompts, **_):
        return type("Batch", (), {"input_ids": torch.full((len(prompts), 4), 3)})()

    def convert_tokens_to_ids(self, token):
        return None if token == " " else 3


def test_token_healing_is_refused_once_something_is_steered(pair, prompts):
    _, model, steering = pair()
    config = GenerationConfig(token_healing=True, max_new_tokens=2, pad_token_id=0)
    model.generate(prompts, generation_config=config, tokenizer=Healer())
    with (
        steering.requests([None, "joy", None, None]),
        pytest.raises(SteeringError, match="heal them before"),
    ):
        model.generate(prompts, generation_config=config, tokenizer=Healer())


@pytest.mark.parametrize("given", ["argument", "config", "model"])
@pytest.mark.parametrize(("eos", "pads"), [(2, True), ([2, 0], False), (None, True), (0, False)])
def test_padding_is_inferred_as_generate_infers_it(
    eos, pads, given, pair, padded, requests_at, emotions
):
    plain, model, steering = pair()
    ids, mask = padded()
    ids = torch.where(mask == 0, 0, ids)
    with torch.no_grad():
        for each in (plain, model):
            each.get_input_embeddings().weight[0] = 0.3
    requests = requests_at("all")
    model.generation_config.pad_token_id = 0 if given == "model" else 17
    options = {"pad_token_id": 0} if given == "argument" else {}
    config = GenerationConfig(pad_token_id=0) if given == "config" else None
    # Told through the model: an argument None is what `generate` takes from there too.
    model.generation_config.eos_token_id = eos
    options |= {"min_new_tokens": 5} if eos is not None else {}
    with steering.requests(requests):
        output = model.generate(ids, generation_config=config, **options, **OPTIONS)
    text = output.sequences
    real = torch.cat([mask if pads else torch.ones_like(mask), torch.ones_like(text[:, 7:])], 1)
    full = forced(text, real, 7, requests, "all", plain, emotions)
    assert_steps(output.logits, full, 7)


def test_copies_of_a_patched_model_record_their_own_generate(pair, prompts, requests_at, emotions):
    plain, model, steering = pair()
    other, requests = copy.deepcopy(model), requests_at("generated")
    with steering.requests(requests):
        output = other.generate(prompts, **OPTIONS)
    real = torch.ones_like(output.sequences)
    nothing = [None] * 4
    full = forced(output.sequences, real, 7, nothing, "all", plain, emotions)
    assert_steps(output.logits, full, 7)


def test_a_model_that_takes_its_whole_text_beside_a_cache_is_refused(pair, prompts):
    _, model, steering = pair("cpmant")
    options = {"max_new_tokens": 3, "do_sample": False}
    model.generate(prompts, **options)
    steering.set("joy")
    with pytest.raises(SteeringError, match="use_cache=False"):
        model.generate(prompts, **options)
