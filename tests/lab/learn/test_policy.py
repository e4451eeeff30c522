"""Policy gradient and equal doses, on a small random model whose judge counts words."""

from __future__ import annotations

import pytest
import torch
from word_model import WordJudge, word_tokenizer, word_vectors

from emokernel import EmokernelError, EmotionVectors, Request, patch
from emokernel.errors import SteeringError
from emokernel.lab.learn import PolicyGradient, compare, learn_vectors, requests_at_dose
from emokernel.lab.measure.encoding import encoded
from emokernel.lab.measure.equal_doses import divergences
from emokernel.lab.measure.sampling import Sampling

SHORT = Sampling(6, temperature=1.0, top_p=1.0)
OPENINGS = [f"w{n} w{n + 20}" for n in range(3, 43)]


@pytest.fixture
def writer(tiny):
    tokenizer = word_tokenizer()
    tokenizer.pad_token, tokenizer.eos_token = "w0", "w2"
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight.mul_(5.0)  # as it is, nothing moves its distributions far
    return model, tokenizer


def weak(model) -> EmotionVectors:
    """The right directions beside a longer one that has nothing to do with them."""
    generator = torch.Generator().manual_seed(0)
    right = word_vectors(model)
    noise = torch.randn(right.tensor.shape, generator=generator)
    return EmotionVectors(right.names, 0.2 * right.tensor + 0.4 * noise, "block")


def objective(model, tokenizer, steering, names=("joy",), **options) -> PolicyGradient:
    options = {"judge": WordJudge(), "openings": OPENINGS, "texts": 32, "sampling": SHORT} | options
    requests = {name: Request(name, 1.0) for name in names}
    return PolicyGradient(model, tokenizer, steering, requests, **options)


def test_what_the_judge_looks_for_becomes_more(writer):
    model, tokenizer = writer
    before = weak(model)
    steering = patch(model, before, law="add")
    names = ("joy", "anger")
    loss = objective(model, tokenizer, steering, names)
    learned = learn_vectors(steering, names, loss, steps=20, rate=0.4, progress=False)
    steering.unpatch()
    found = compare(
        model, tokenizer, {"before": before, "after": learned}, "joy", judge=WordJudge(),
        openings=OPENINGS, dose=0.3, seeds=4, sampling=SHORT,
    )  # fmt: skip
    assert found.gain[1] > 0.02, str(found)
    for measured in found.measured.values():
        assert measured.divergence == pytest.approx(0.3, rel=0.03)
    assert "probability of joy" in str(found)


def test_two_emotions_at_once_are_their_losses_added(writer):
    model, tokenizer = writer
    steering = patch(model, word_vectors(model), law="add")
    with steering.learning() as learned:
        gradients = []
        for names in (("joy",), ("joy", "sadness")):
            loss = objective(model, tokenizer, steering, names, seed=3)(0)
            gradients.append(torch.autograd.grad(loss, learned.parameter)[0])
    alone, together = gradients
    torch.testing.assert_close(alone[:, 1], together[:, 1], rtol=1e-3, atol=1e-5)
    assert not alone[:, 2].any()
    assert together[:, 2].abs().max() > 0


def test_the_penalty_is_the_divergence(writer):
    """Where all texts are worth the same, nothing else is left."""
    model, tokenizer = writer

    class Blind(WordJudge):
        def probabilities(self, texts):
            return torch.full((len(texts), 5), 0.2)

    steering = patch(model, word_vectors(model), law="add")
    loss = objective(model, tokenizer, steering, judge=Blind(), penalty=3.0)
    contexts, answers = [[5, 6, 7]], [[8, 9, 10, 11, 12, 13]]
    joy = Request("joy", 1.0)
    found = loss._loss(contexts, answers, [joy], torch.zeros(1))
    ids = torch.tensor([contexts[0] + answers[0]])
    with torch.no_grad():
        plain = model(ids).logits[0, 2:-1].log_softmax(-1)
        with steering.requests([joy]):
            steered = model(ids).logits[0, 2:-1].log_softmax(-1)
    expected = 3.0 * (steered.exp() * (steered - plain)).sum(-1).mean()
    torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("law", "dose"), [("add", 0.1), ("preserve", 0.1)])
def test_requests_of_equal_dose_diverge_by_it(law, dose, writer):
    model, tokenizer = writer
    steering = patch(model, word_vectors(model), law=law)
    found = requests_at_dose(
        model, tokenizer, steering, ["joy", "anger"], OPENINGS, dose, sampling=SHORT
    )
    assert {request.law for request in found.values()} == {law}
    texts = encoded(tokenizer, [(o, " w5 w9 w13 w17") for o in OPENINGS])
    made = divergences(model, steering, texts, list(found.values()))
    assert made.tolist() == pytest.approx([dose, dose], rel=0.35), "other texts, about the same"


def test_a_dose_that_is_not_reached_is_refused(writer):
    model, tokenizer = writer
    steering = patch(model, word_vectors(model), law="preserve", dose="relative")
    with pytest.raises(SteeringError, match="ask for a smaller dose"):
        requests_at_dose(model, tokenizer, steering, ["joy"], OPENINGS, 4.0, sampling=SHORT)


def test_what_cannot_be_judged_is_refused(writer):
    model, tokenizer = writer
    steering = patch(model, word_vectors(model))
    with pytest.raises(EmokernelError, match="needs 32 different openings"):
        objective(model, tokenizer, steering, openings=OPENINGS[:5])
    with pytest.raises(EmokernelError, match="'boredom'"):
        objective(model, tokenizer, steering, ("boredom",))


def test_two_sets_are_compared_and_no_other_number(writer):
    model, tokenizer = writer
    with pytest.raises(ValueError, match="two sets"):
        compare(
            model, tokenizer, {"one": word_vectors(model)}, "joy", judge=WordJudge(),
            openings=OPENINGS,
        )  # fmt: skip
