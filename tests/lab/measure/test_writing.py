"""Answers that others see while they are written, change and end."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList
from uncached import forget
from word_model import word_tokenizer

from emokernel import EmokernelError, Request, patch
from emokernel.errors import SteeringError
from emokernel.lab.measure.nucleus import Nucleus
from emokernel.lab.measure.sampling import Sampling, Writing, sample
from emokernel.patch.decoder import find_decoder

SAMPLING = Sampling(9)
CONTEXTS = [[5, 6, 7, 8]] * 4
SEEDS = [(3,)] * 4
ENDS = list(range(70, 96))
JOY, ANGER = Request("joy", 30.0), Request("anger", 30.0)


@pytest.fixture
def model(tiny):
    """With logits that are not all about the same, so that the last bits decide nothing."""
    made = tiny()
    made.generation_config.eos_token_id = ENDS
    head = made.get_output_embeddings()
    head.weight = torch.nn.Parameter(20 * head.weight.detach())
    return made


@pytest.fixture
def read(model, monkeypatch):
    """``read()``: the shapes of what the decoder of the model is given from now on."""

    def watch():
        seen, owner = [], find_decoder(model).owner
        plain = owner.forward

        def forward(*args, **kwargs):
            seen.append(tuple(kwargs["input_ids"].shape))
            return plain(*args, **kwargs)

        monkeypatch.setattr(owner, "forward", forward)
        return seen

    return watch


def writing(model, contexts=CONTEXTS, seeds=SEEDS, sampling=SAMPLING, **options):
    return Writing(model, word_tokenizer(), contexts, sampling, seeds=seeds, **options)


def rows_of(steps, rows=4):
    """What a list of steps holds, row by row."""
    return [[tokens[row] for tokens in steps if row in tokens] for row in range(rows)]


def test_the_steps_are_what_is_sampled(model):
    contexts = [list(range(3 + row % 4, 7 + 2 * (row % 4))) for row in range(16)]
    seeds = [(row,) for row in range(16)]
    steps = list(writing(model, contexts, seeds))
    answers = sample(model, word_tokenizer(), contexts, SAMPLING, seeds=seeds)
    assert rows_of(steps, 16) == answers
    assert len(set(map(len, answers))) > 2
    for before, after in pairwise(steps):
        assert set(after) <= set(before)


def test_the_last_step_says_that_the_last_answers_ended(model):
    model.generation_config.eos_token_id = list(range(96))
    assert list(writing(model)) == [{}]


def test_a_step_leaves_the_thread_as_it_was(model):
    steps = writing(model)
    next(steps)
    assert torch.is_grad_enabled()
    assert not model(torch.tensor([[1]])).logits.is_inference()


def test_what_is_closed_has_no_more_steps(model, read):
    shapes, steps = read(), writing(model)
    next(steps)
    steps.close()
    steps.change([JOY] * 4)
    assert list(steps) == []
    assert len(shapes) == 1


def test_a_model_that_gives_nan_ends_it(model):
    model.generation_config.eos_token_id = None
    steps = writing(model)
    next(steps)
    model.lm_head.weight.data[:] = torch.nan
    with pytest.raises(EmokernelError, match="NaN"):
        next(steps)
    assert list(steps) == []


class Changing(LogitsProcessor):
    """Leaves the token that the random numbers choose, and changes requests before a step."""

    def __init__(self, block, at, requests):
        self.nucleus, self.step = Nucleus(SEEDS, SAMPLING), -1
        self.block, self.at, self.requests = block, at, requests

    def __call__(self, input_ids, scores):
        self.step += 1
        chosen = self.nucleus.choose(scores, self.step)[:, None]
        if self.step + 1 == self.at:
            self.block.change(self.requests)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)


@pytest.mark.parametrize("positions", ["all", "prompt", "generated", "last"])
@pytest.mark.parametrize("one_shape", [False, True])
@pytest.mark.parametrize("at", [1, 4])
def test_a_change_reaches_what_it_reaches_in_generate(at, one_shape, positions, model, vectors):
    model.generation_config.eos_token_id = None
    steering = patch(model, vectors())
    first = [None, JOY, ANGER, Request("joy", 30.0, positions=positions)]
    second = [JOY, None, Request("anger", 30.0, positions=positions), ANGER]
    with steering.requests(first) as block:
        processors = LogitsProcessorList([Changing(block, at, second)])
        output = model.generate(
            input_ids=torch.tensor(CONTEXTS), max_new_tokens=9, do_sample=False,
            logits_processor=processors,
        )  # fmt: skip
    wanted = output[:, 4:].tolist()
    steps = writing(model, steering=steering, requests=first, one_shape=one_shape)
    found = []
    for step, tokens in enumerate(steps):
        found.append(tokens)
        if step + 1 == at:
            steps.change(second)
    assert rows_of(found) == wanted
    unchanged = rows_of(list(writing(model, steering=steering, requests=first)))
    assert unchanged != wanted
    assert [row[:at] for row in unchanged] == [row[:at] for row in wanted]
    assert steering.requested.slots.held == 0


def test_answers_that_were_taken_out_have_no_request_any_more(model, vectors):
    """With rows of other lengths, so that what remains is no longer the first of them."""
    steering = patch(model, vectors())
    contexts, seeds = [[5 + row, 6, 7] for row in range(4)], [(row,) for row in range(4)]
    requests = [JOY, None, ANGER, None]
    whole = rows_of(
        list(writing(model, contexts, seeds, steering=steering, requests=requests))
    )  # fmt: skip
    lengths = sorted(map(len, whole))
    assert lengths[0] < lengths[-1] - 1
    steps = writing(model, contexts, seeds, steering=steering, requests=requests)
    found = []
    for tokens in steps:
        found.append(tokens)
        steps.change(requests)
    assert rows_of(found) == whole


def test_in_one_shape_every_forward_has_every_row(model, read, vectors):
    steering = patch(model, vectors())
    shapes = read()
    requests = [None, None, JOY, JOY]
    steps = list(writing(model, steering=steering, requests=requests, one_shape=True))
    assert min(len(row) for row in rows_of(steps)) < len(steps) - 1
    assert shapes == [(4, 4), *[(4, 1)] * (len(steps) - 1)]


@pytest.mark.parametrize("others", [[JOY, ANGER, JOY], [Request("sadness", 3.0), JOY, None]])
def test_in_one_shape_no_answer_depends_on_the_others(others, model, vectors):
    steering = patch(model, vectors())
    scores = []
    for requests in ([None] * 4, [None, *others]):
        steps = writing(model, steering=steering, requests=requests, one_shape=True)
        choose = steps._nucleus.choose
        kept = []
        steps._nucleus.choose = lambda s, *a, kept=kept, choose=choose: (
            kept.append(s[0].clone()) or choose(s, *a)
        )
        list(steps)
        scores.append(kept)
    assert scores[0]
    assert all(torch.equal(a, b) for a, b in zip(*scores, strict=False))


def test_changes_that_cannot_be_are_told(model, vectors):
    model.generation_config.eos_token_id = None
    steering = patch(model, vectors())
    steps = writing(model, steering=steering, requests=[JOY] * 4)
    with pytest.raises(SteeringError, match="begin with these requests"):
        steps.change([ANGER] * 4)
    next(steps)
    with pytest.raises(EmokernelError, match="2 requests for 4 rows"):
        steps._decoding.change([ANGER] * 2)
    unsteered = writing(model)
    next(unsteered)
    with pytest.raises(EmokernelError, match="need the steering"):
        unsteered.change([ANGER] * 4)


def test_a_model_without_a_cache_cannot_change_its_mind(model, vectors, monkeypatch):
    steering = patch(model, vectors())
    forget(model, monkeypatch)
    steps = writing(model, steering=steering, requests=[JOY] * 4)
    first = next(steps)
    with pytest.raises(SteeringError, match="keeps no cache"):
        steps.change([ANGER] * 4)
    assert steps.reads_all
    rest = list(steps)
    assert [first, *rest] == list(writing(model, steering=steering, requests=[JOY] * 4))
