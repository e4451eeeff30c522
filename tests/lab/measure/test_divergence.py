"""The divergence of steering against one computed text by text."""

from __future__ import annotations

import pytest
import torch

from emokernel import EmokernelError, Request, patch
from emokernel.lab.measure import equal_doses
from emokernel.lab.measure.encoding import Encoded, encoded
from emokernel.lab.measure.equal_doses import divergences


@pytest.fixture
def texts(prompts):
    """Four texts of different lengths, the first tokens of each not counted."""
    mask = torch.ones_like(prompts)
    for row in range(len(mask)):
        mask[row, 7 - row :] = 0
    counted = mask.bool() & (torch.arange(7) >= 2)
    return Encoded(prompts * mask, mask, counted)


def by_hand(model, steering, texts, request):
    total, tokens = 0.0, 0
    for row in range(len(texts.ids)):
        length = int(texts.mask[row].sum())
        ids = texts.ids[row : row + 1, :length]
        with torch.no_grad():
            steering.off()
            before = model(ids).logits[0].double().log_softmax(-1)
            if request is not None:
                steering.set(request.emotion, request.strength, law=request.law)
            after = model(ids).logits[0].double().log_softmax(-1)
        kl = (after.exp() * (after - before)).sum(-1)
        total += kl[texts.counted[row, :length]].sum().item()
        tokens += int(texts.counted[row].sum())
    steering.off()
    return total / tokens


@pytest.mark.parametrize("rows", [1, 3, 512])
def test_it_is_the_mean_over_counted_tokens(rows, tiny, vectors, texts, monkeypatch):
    monkeypatch.setattr(equal_doses, "MOST_REQUESTS", rows)
    model = tiny()
    # Distributions that are not flat, so that the two directions of the divergence differ.
    model.lm_head.weight.data *= 30
    steering = patch(model, vectors())
    requests = [Request("joy", 3.0), Request("anger", -2.0, law="add"), Request("joy", 0.0)]
    told = []
    found = divergences(model, steering, texts, requests, told.append).tolist()
    assert found == pytest.approx(
        [by_hand(model, steering, texts, request) for request in requests], rel=1e-3, abs=1e-7
    )
    assert found[0] > 0.01
    assert found[2] == pytest.approx(0.0, abs=1e-7)
    assert sum(told) == 12


def test_texts_without_a_token_that_counts_are_an_error(tiny, vectors, texts):
    model = tiny()
    nothing = Encoded(texts.ids, texts.mask, torch.zeros_like(texts.counted))
    with pytest.raises(EmokernelError, match="no text to measure a divergence on"):
        divergences(model, patch(model, vectors()), nothing, [Request("joy", 1.0)])


def test_no_texts_are_an_error():
    class Words:
        is_fast, all_special_ids, unk_token_id = True, (), None

    with pytest.raises(EmokernelError, match="there is no text to read"):
        encoded(Words(), [])
