"""The loop that writes: what `generate` would write, whatever is read once and taken out early."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MambaConfig,
    MambaForCausalLM,
)
from uncached import forget
from word_model import word_tokenizer

from emokernel import EmokernelError, Request, patch
from emokernel.lab.measure.decoding import Decoding, left_padded
from emokernel.lab.measure.nucleus import Nucleus
from emokernel.lab.measure.sampling import Sampling, sample
from emokernel.patch.decoder import find_decoder

SAMPLING = Sampling(7)
CONTEXTS = [list(range(3 + row % 4, 7 + 2 * (row % 4))) for row in range(16)]
SEEDS = [(row,) for row in range(16)]
ENDS = list(range(70, 96))


class Chosen(LogitsProcessor):
    """Leaves the token that the random numbers of a row choose."""

    def __init__(self):
        self.nucleus, self.step = Nucleus(SEEDS, SAMPLING), -1

    def __call__(self, input_ids, scores):
        self.step += 1
        chosen = self.nucleus.choose(scores, self.step)[:, None]
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)


def generated(model, steering=None, requests=None):
    """What `generate` writes, row for row."""
    ids, mask = left_padded(CONTEXTS, 0)

    def run():
        return model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=SAMPLING.max_new_tokens,
            pad_token_id=0, do_sample=False, eos_token_id=ENDS,
            logits_processor=LogitsProcessorList([Chosen()]),
        )  # fmt: skip

    if steering is None:
        output = run()
    else:
        with steering.requests(requests):
            output = run()
    answers = output[:, ids.shape[1] :].tolist()
    return [
        row[: next((at for at, token in enumerate(row) if token in ENDS), len(row))]
        for row in answers
    ]


def peaked(model):
    """With logits that are not all about the same, so that the last bits decide nothing."""
    model.generation_config.eos_token_id = ENDS
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(20 * head.weight.detach())  # perhaps the embeddings' own
    return model


def written(model, **steered):
    return sample(model, word_tokenizer(), CONTEXTS, SAMPLING, seeds=SEEDS, **steered)


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi", "gemma", "qwen3"])
def test_it_writes_what_generate_writes(family, tiny):
    model = peaked(tiny(family))
    answers = written(model)
    assert answers == generated(model)
    assert len(set(map(len, answers))) > 1 or family == "gemma"


def test_a_model_that_says_which_logits_it_wants_is_written_with(tiny, monkeypatch):
    """As Bamba and Falcon-H1 do when they prepare."""
    model = peaked(tiny())
    expected, prepare = written(model), model.prepare_inputs_for_generation
    monkeypatch.setattr(
        model, "prepare_inputs_for_generation", lambda *a, **k: prepare(*a, **k, logits_to_keep=1)
    )
    assert written(model) == expected


@pytest.mark.parametrize("positions", ["all", "prompt", "generated", "last"])
def test_requests_reach_the_tokens_that_they_reach_in_generate(positions, tiny, vectors):
    requests = [
        None if row % 3 == 0 else Request("joy" if row % 3 == 1 else "anger", 30.0,
                                          positions=positions)
        for row in range(16)
    ]  # fmt: skip
    model = peaked(tiny())
    steering = patch(model, vectors())
    answers = written(model, steering=steering, requests=requests)
    assert answers == generated(model, steering, requests)
    plain = written(model)
    assert answers[::3] == plain[::3]
    assert answers != plain


def test_a_recurrent_model_is_written_with_too(vectors):
    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 3}
    model = peaked(MambaForCausalLM(MambaConfig(**sizes, pad_token_id=0)).eval())
    answers = written(model)
    assert answers == generated(model)


def test_a_model_without_a_cache_reads_its_text_again(tiny, vectors, monkeypatch):
    requests = [Request("joy", 30.0, positions="generated")] * 16
    model = peaked(tiny())
    steering = patch(model, vectors())
    expected = written(model, steering=steering, requests=requests)
    forget(model, monkeypatch)
    assert written(model, steering=steering, requests=requests) == expected


@pytest.fixture
def read(monkeypatch):
    """``read(model)``: the shapes of what the decoder of ``model`` is given, as they come."""

    def watch(model):
        shapes, owner = [], find_decoder(model).owner
        plain = owner.forward

        def forward(*args, **kwargs):
            shapes.append(tuple(kwargs["input_ids"].shape))
            return plain(*args, **kwargs)

        monkeypatch.setattr(owner, "forward", forward)
        return shapes

    return watch


def test_what_is_the_same_is_read_once(tiny, vectors, read):
    model = peaked(tiny())
    steering = patch(model, vectors())
    joy, same = Request("joy", 30.0), Request("joy", 30.0)
    contexts = [[5, 6, 7], [5, 6, 7], [5, 6, 7], [8, 9], [5, 6, 7]]
    requests = [joy, None, same, None, Request("joy", 20.0)]
    shapes = read(model)
    answers = sample(
        model, word_tokenizer(), contexts, SAMPLING, seeds=[(n,) for n in range(5)],
        steering=steering, requests=requests,
    )  # fmt: skip
    assert shapes[0] == (4, 3)
    alone = [
        sample(model, word_tokenizer(), [c], SAMPLING, seeds=[(n,)], steering=steering,
               requests=[request])[0]
        for n, (c, request) in enumerate(zip(contexts, requests, strict=True))
    ]  # fmt: skip
    assert answers == alone


def test_answers_that_have_ended_cost_nothing(tiny, read):
    model = peaked(tiny())
    shapes = read(model)
    answers = written(model)
    steps = [rows for rows, tokens in shapes if tokens == 1]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == 16 - sum(not answer for answer in answers)
    # Of each step at most an eighth of the rows has ended; those that end in it are among them.
    going = [sum(len(answer) > step for answer in answers) for step in range(len(steps))]
    for rows, left in zip(steps, going, strict=True):
        assert left <= rows <= left + max(1, rows // 8)


def test_nothing_to_read_and_nobody_to_steer_are_told(tiny):
    with pytest.raises(EmokernelError, match="a context is empty"):
        Decoding(tiny(), [[1], []], 0)
    with pytest.raises(EmokernelError, match="need the steering"):
        Decoding(tiny(), [[1]], 0, requests=[Request("joy")])
