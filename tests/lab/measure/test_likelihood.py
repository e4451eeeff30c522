"""Reading texts behind contexts that several of them have: the same nats for fewer tokens."""

from __future__ import annotations

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM, MistralConfig, MistralForCausalLM
from word_model import word_tokenizer

from emokernel.lab.measure import likelihood
from emokernel.lab.measure.fluency import surprises
from emokernel.patch.decoder import find_decoder

CONTEXTS = ("w3 w4 w5 w6 w7 w8", "w9 w10 w11 w12 w13 w14", "w9 w10 w11")
PAIRS = [
    (context, "".join(f" w{20 + (7 * n + word) % 60}" for word in range(1 + n % 5)))
    for n in range(10)
    for context in CONTEXTS
]


@pytest.fixture
def watched(monkeypatch):
    """``watched(model)``: the numbers of tokens that its decoder reads, as they come."""

    def watch(model):
        read, owner = [], find_decoder(model).owner
        plain = owner.forward

        def forward(*args, **kwargs):
            read.append(kwargs["input_ids"].numel())
            return plain(*args, **kwargs)

        monkeypatch.setattr(owner, "forward", forward)
        return read

    return watch


def one_by_one(model, pairs=PAIRS):
    tokenizer, found = word_tokenizer(), []
    for context, text in pairs:
        ids = torch.tensor([tokenizer(context + text)["input_ids"]])
        with torch.no_grad():
            log_p = model(ids).logits[0].float().log_softmax(-1)
        first = len(tokenizer(context)["input_ids"])
        found.append(sum(-log_p[n - 1, ids[0, n]].item() for n in range(first, ids.shape[1])))
    return found


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma"])
def test_the_nats_are_those_of_each_text_alone(family, batch_size, tiny):
    model = tiny(family)
    nats, tokens = surprises(model, word_tokenizer(), PAIRS, batch_size=batch_size)
    assert nats.tolist() == pytest.approx(one_by_one(model), rel=1e-4)
    assert tokens.tolist() == [1 + n % 5 for n in range(10) for _ in CONTEXTS]


def test_what_texts_share_is_read_once(tiny, watched):
    model = tiny()
    read = watched(model)
    surprises(model, word_tokenizer(), PAIRS, batch_size=64)
    # The last token of a context is read for each text; whether there is a cache is tried on one.
    shared, own = 5 + 5 + 2, sum(1 + text.count("w") for _, text in PAIRS)
    assert shared + own <= sum(read) <= shared + 1 + len(PAIRS) * 6
    assert sum(read) < 0.85 * sum((context + text).count("w") for context, text in PAIRS)


def test_a_window_over_the_context_is_kept(watched):
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=96, hidden_size=64, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=4,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    read = watched(model)
    nats, _ = surprises(model, word_tokenizer(), PAIRS)
    assert len(read) > 3, "shared contexts have a pass of their own"
    assert nats.tolist() == pytest.approx(one_by_one(model), rel=1e-4)


def test_what_a_recurrent_model_has_read_is_not_read_behind(watched):
    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 2}
    model = MambaForCausalLM(MambaConfig(**sizes)).eval()
    nats, _ = surprises(model, word_tokenizer(), PAIRS, batch_size=64)
    assert nats.tolist() == pytest.approx(one_by_one(model), rel=1e-3)


def test_no_more_logits_are_held_than_that(tiny, monkeypatch):
    model, held = tiny(), []
    head = model.lm_head.forward
    monkeypatch.setattr(
        model.lm_head, "forward", lambda x: held.append(x.shape[0] * x.shape[1]) or head(x)
    )
    monkeypatch.setattr(likelihood, "MOST_LOGITS", 96 * 20)
    nats, _ = surprises(model, word_tokenizer(), PAIRS, batch_size=64)
    assert max(held) <= 20
    monkeypatch.undo()
    torch.testing.assert_close(nats, surprises(model, word_tokenizer(), PAIRS)[0])
