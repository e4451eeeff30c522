"""Each way of decoding steers the columns that its positions mean, sequence by sequence."""

from __future__ import annotations

import pytest
import torch
from engines.oracle import assert_steps, by_hand, teacher_forced

POSITIONS = ["all", "prompt", "generated", "last"]
STEPS = 6
MODES = {
    "greedy": {},
    "sampling": {"do_sample": True, "top_k": 0},
    "without cache": {"use_cache": False},
    "return sequences": {"do_sample": True, "top_k": 0, "num_return_sequences": 2},
    "static cache": {"cache_implementation": "static"},
    "static, sampling": {
        "cache_implementation": "static", "do_sample": True, "num_return_sequences": 2,
    },
    "prefill in chunks": {"prefill_chunk_size": 3},
    "prefill one by one": {"prefill_chunk_size": 1},
    "static, in chunks": {"cache_implementation": "static", "prefill_chunk_size": 3},
}  # fmt: skip


def generated(model, ids, mask, **options):
    """The output of `generate` with the logits of each step."""
    torch.manual_seed(11)
    options = {"do_sample": False, "max_new_tokens": STEPS} | options
    return model.generate(
        ids, attention_mask=mask, output_logits=True, return_dict_in_generate=True, **options
    )


def finished(sequences, mask, width):
    """(Which columns of finished texts are no padding, which are prompt): bool ``[n, columns]``."""
    new = torch.ones(len(sequences), sequences.shape[1] - width, dtype=torch.bool)
    real = torch.cat([mask.bool().repeat_interleave(len(sequences) // len(mask), 0), new], 1)
    return real, (torch.arange(sequences.shape[1]) < width).expand_as(real)


def assert_steered(output, mask, requests, positions, plain, emotions):
    """Every step gave what the full forward gives that is steered where ``positions`` means."""
    sequences, width = output.sequences, mask.shape[1]
    real, prompt = finished(sequences, mask, width)
    requests = [request for request in requests for _ in range(len(sequences) // len(requests))]
    full = teacher_forced(
        plain, emotions, sequences, real, width, (requests, by_hand(positions, real, prompt))
    )
    assert_steps(output.logits, full, width)


def check(models, prompts, mode, positions, requests, emotions):
    """Generate under ``requests`` and compare every step with hooks on the plain model."""
    (plain, model, steering), (ids, mask) = models, prompts
    with steering.requests(requests):
        output = generated(model, ids, mask, **MODES[mode])
    assert_steered(output, mask, requests, positions, plain, emotions)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("mode", MODES)
def test_positions_are_exact_in(mode, positions, pair, padded, requests_at, emotions):
    check(pair(), padded(), mode, positions, requests_at(positions), emotions)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("mode", ["greedy", "static cache", "without cache"])
@pytest.mark.parametrize("side", ["no", "left"])
def test_positions_are_exact_for_one_emotion_set(
    side, mode, positions, pair, padded, requests_at, emotions
):
    plain, model, steering = pair()
    ids, mask = padded(side)
    request = requests_at(positions)[0]
    steering.set(request.emotion, request.strength, positions=positions)
    output = generated(model, ids, mask, **MODES[mode])
    assert_steered(output, mask, [request] * 4, positions, plain, emotions)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("mode", ["greedy", "static cache", "prefill in chunks", "without cache"])
@pytest.mark.parametrize("family", ["sliding", "hybrid", "gemma2"])
def test_positions_are_exact_with_a_window_shorter_than_the_text(
    family, mode, positions, pair, padded, requests_at, emotions
):
    check(pair(family), padded(), mode, positions, requests_at(positions), emotions)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("mode", ["greedy", "sampling", "return sequences", "without cache"])
def test_positions_are_exact_with_a_cache_that_does_not_count(
    mode, positions, pair, padded, requests_at, emotions
):
    check(pair("recurrent"), padded("no"), mode, positions, requests_at(positions), emotions)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("mode", ["greedy", "static cache", "prefill in chunks", "without cache"])
def test_the_last_prompt_token_comes_before_padding_on_the_right(
    mode, positions, pair, padded, requests_at, emotions
):
    check(pair(), padded("right"), mode, positions, requests_at(positions), emotions)


def test_positions_may_differ_within_a_batch(pair, padded, emotions, requests_at):
    plain, model, steering = pair()
    ids, mask = padded()
    requests = [requests_at(positions)[0] for positions in POSITIONS]
    with steering.requests(requests):
        output = generated(model, ids, mask)
    real, prompt = finished(output.sequences, mask, 7)
    steered = [
        ([request if row == mine else None for row in range(4)], by_hand(kind, real, prompt))
        for mine, (request, kind) in enumerate(zip(requests, POSITIONS, strict=True))
    ]
    full = teacher_forced(plain, emotions, output.sequences, real, 7, *steered)
    assert_steps(output.logits, full, 7)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_beams_that_are_reordered_keep_the_request_of_their_prompt(
    cache, positions, pair, padded, requests_at, emotions
):
    plain, model, steering = pair()
    ids, mask = padded()
    requests = requests_at(positions)
    with steering.requests(requests):
        output = generated(
            model, ids, mask, num_beams=3, num_return_sequences=2, cache_implementation=cache
        )
    beams = output.beam_indices[:, :STEPS]
    assert (beams.diff() != 0).any(), "no beam was reordered"
    assert torch.equal(beams // 3, torch.arange(4).repeat_interleave(2)[:, None].expand_as(beams))
    chosen = [logits[beams[:, step]] for step, logits in enumerate(output.logits)]
    output.logits = chosen
    assert_steered(output, mask, requests, positions, plain, emotions)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("lookalike", [False, True])
def test_positions_are_exact_with_embeddings_instead_of_ids(
    lookalike, positions, pair, padded, requests_at, emotions
):
    # `generate` may be given ids beside the embeddings; it does not run the model on them.
    plain, model, steering = pair()
    ids, mask = padded()
    requests = requests_at(positions)
    beside = {"input_ids": ids[:, :2]} if lookalike else {}
    with steering.requests(requests):
        output = model.generate(
            inputs_embeds=model.get_input_embeddings()(ids), attention_mask=mask, **beside,
            max_new_tokens=STEPS, do_sample=False, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    new = output.sequences[:, 2:] if lookalike else output.sequences
    output.sequences = torch.cat([ids, new], 1)
    assert_steered(output, mask, requests, positions, plain, emotions)


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_prompt_of_one_token_is_prompt(positions, pair, requests_at, emotions):
    plain, model, steering = pair()
    request = requests_at(positions)[0]
    ids = torch.tensor([[1]])
    with steering.requests([request]):
        for given in (ids, None):
            output = generated(model, given, None)
            assert_steered(output, torch.ones(1, 1), [request], positions, plain, emotions)


@pytest.mark.parametrize("positions", POSITIONS)
def test_tokens_after_the_end_of_a_text_do_not_disturb_its_neighbours(
    positions, pair, padded, requests_at, emotions
):
    plain, model, steering = pair()
    ids, mask = padded()
    requests = requests_at(positions)
    with steering.requests(requests):
        first = generated(model, ids, mask).sequences[0, 8]
        output = generated(model, ids, mask, eos_token_id=int(first), pad_token_id=0)
    assert (output.sequences[0, 9:] == 0).all(), "the first text did not end"
    assert_steered(output, mask, requests, positions, plain, emotions)


class NoStream:
    """Stands for the streams on which a GPU copies: a CPU offloads to itself, at once."""

    def wait_stream(self, other):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("cache", ["offloaded", "offloaded_static"])
def test_positions_are_exact_with_offloaded_caches(
    cache, positions, pair, padded, requests_at, emotions, monkeypatch
):
    monkeypatch.setattr(torch, "Stream", NoStream)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: NoStream())
    plain, model, steering = pair()
    ids, mask = padded()
    requests = requests_at(positions)
    with steering.requests(requests):
        output = generated(model, ids, mask, cache_implementation=cache)
    assert_steered(output, mask, requests, positions, plain, emotions)
