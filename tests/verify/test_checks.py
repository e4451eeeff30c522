"""Every check passes for a model that is whole, and fails when its promise is broken."""

from __future__ import annotations

import pytest
import torch
from conftest import VOCABULARY
from torch import nn
from transformers import MambaConfig, MambaForCausalLM
from verify.conftest import FUSED, failed
from word_model import word_tokenizer

from emokernel import EmotionVectors
from emokernel.choices import POSITIONS
from emokernel.engines.compiled import CompiledForwards
from emokernel.steering import Steering
from emokernel.verify import CHECKS, Failed, Subject, checks, compiled, verify

# What takes longest, and what another test is about.
QUICK = ("compile",)


def slots_of(given: tuple) -> torch.Tensor:
    """The ``token_slot`` of the rows of a call of a row operation."""
    return given[-4][: given[0].shape[:-1].numel()]


def nudged(row: torch.Tensor) -> torch.Tensor:
    """The next larger number of every element."""
    return torch.nextafter(row, torch.full_like(row, float("inf")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("site", ["attention", "block"])
def test_a_whole_model_passes(family, site, dtype, tiny, vectors):
    subject = Subject(tiny(family, dtype), word_tokenizer(), vectors(site))
    findings = verify(subject, QUICK)
    assert [finding.name for finding in findings] == list(CHECKS)
    assert {finding.name: finding.detail for finding in findings if finding.ok is False} == {}
    not_run = {finding.name: finding.detail for finding in findings if finding.ok is None}
    assert not_run == {"compile": "skipped", "cuda-graphs": "no GPU"}


def test_rows_without_a_steering_are_changed(subject, breaking):
    """Kernels without a fused norm that touch what is untouched."""

    def change(run, given):
        y = run(*given)
        return torch.where((slots_of(given) < 0).view(*y.shape[:-1], 1), nudged(y), y)

    breaking(change, "add_steer")
    assert failed(subject, *QUICK) == ["exactness"]


def test_a_fused_norm_is_off(subject, breaking):
    def change(run, given):
        normed, y = run(*given)
        return normed * (1 + 4e-5), y

    breaking(change, *FUSED)
    assert failed(subject, *QUICK) == ["fused-norms"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_the_law_is_off_by_one_per_cent(factor, dtype, tiny, vectors, breaking):
    subject = Subject(tiny(dtype=dtype), word_tokenizer(), vectors())

    def change(run, given):
        *others, weights, law = given
        return run(*others, weights * factor, law)

    breaking(change, "add_steer", *FUSED)
    findings = {finding.name: finding for finding in verify(subject, QUICK)}
    assert [name for name, finding in findings.items() if finding.ok is False] == ["effect"]
    told = f"amount {factor:.2f}"
    assert told[:-1] in findings["effect"].detail


def test_preserve_changes_the_norm(subject, breaking):
    def change(run, given):
        normed, y = run(*given)
        steered = (slots_of(given) >= 0).view(*y.shape[:-1], 1)
        return normed, torch.where(steered, y * (1 + 2e-6), y)

    breaking(change, *FUSED)
    assert failed(subject, *QUICK) == ["effect"]


def test_neighbours_are_steered(subject, breaking):
    """In decoding alone, and only beside sequences that are steered."""

    def change(run, given):
        normed, y = run(*given)
        slots = slots_of(given)
        if y.shape[1] == 1 and (slots >= 0).any():
            y = torch.where((slots < 0).view(-1, 1, 1), nudged(y), y)
        return normed, y

    breaking(change, *FUSED)
    assert failed(subject, *QUICK) == ["independence"]


def test_nothing_is_steered(subject, breaking):
    def change(run, given):
        *others, slots, ids, weights, law = given
        return run(*others, torch.full_like(slots, -1), ids, weights, law)

    breaking(change, "add_steer", *FUSED)
    assert failed(subject, *QUICK) == ["effect", "independence", "positions"]


def test_a_row_is_left_out(subject, breaking):
    """The last token of the last prompt; what is steered is steered as the law says."""

    def change(run, given):
        *others, slots, ids, weights, law = given
        slots = slots.clone()
        slots[given[0].shape[:-1].numel() - 1] = -1
        return run(*others, slots, ids, weights, law)

    breaking(change, "add_steer", *FUSED)
    (finding,) = [
        f for f in verify(subject, set(CHECKS) - {"structure", "effect"}) if f.name == "effect"
    ]
    assert finding.ok is False
    assert "rows steered, not" in finding.detail


@pytest.mark.parametrize(
    ("kind", "means"),
    [
        ("last", (False, False, True)),
        ("prompt", (True, False, False)),
        ("generated", (False, True, True)),
        ("all", (True, True, False)),
    ],
)
def test_positions_are_mistaken(kind, means, subject, monkeypatch):
    monkeypatch.setitem(POSITIONS._values, kind, means)
    found = failed(subject, *QUICK)
    assert "positions" in found
    if kind != "all":  # which the other checks ask for
        assert found == ["positions"]


def test_off_does_not_switch_off(subject, monkeypatch):
    monkeypatch.setattr(Steering, "off", lambda self: None)
    assert "effect" in failed(subject, *QUICK)


def test_unpatch_leaves_something(subject, monkeypatch):
    unpatch = Steering.unpatch

    def leaving(self):
        unpatch(self)
        self._model.register_buffer("left", torch.zeros(1))

    monkeypatch.setattr(Steering, "unpatch", leaving)
    assert failed(subject, *QUICK) == ["unpatch"]


def test_unpatch_moves_a_weight(subject, monkeypatch):
    unpatch = Steering.unpatch

    def moving(self):
        unpatch(self)
        weight = self._model.lm_head.weight
        weight.data = nudged(weight.data)

    monkeypatch.setattr(Steering, "unpatch", moving)
    assert failed(subject, *QUICK, "exactness") == ["unpatch"]


class Recompiled(nn.Linear):
    """A head with a number that torch.compile takes for a constant."""

    stamp = 0

    def forward(self, x):
        return super().forward(x) + 0 * self.stamp


def test_compiling_goes_well(subject):
    others = set(CHECKS) - {"structure", "compile"}
    (finding,) = [f for f in verify(subject, others) if f.name == "compile"]
    assert finding.ok, finding.detail
    assert "1 graph as unpatched, 0 breaks, 0 recompiles over 9 changes" in finding.detail


def test_every_set_recompiles(subject, monkeypatch):
    head = subject.model.lm_head
    recompiled = Recompiled(head.in_features, head.out_features, bias=False)
    recompiled.weight = head.weight
    subject.model.lm_head = recompiled
    put = Steering.set

    def setting(self, *args, **kwargs):
        recompiled.stamp += 1
        put(self, *args, **kwargs)

    monkeypatch.setattr(Steering, "set", setting)
    findings = {finding.name: finding for finding in verify(subject)}
    assert [name for name, finding in findings.items() if finding.ok is False] == ["compile"]
    assert "graphs, 1 unpatched" in findings["compile"].detail
    assert "stamp" in findings["compile"].detail


def test_a_compiled_model_is_not_steered(subject, monkeypatch):
    """What was asked for when it was compiled stays for good."""
    monkeypatch.setattr(CompiledForwards, "announce", lambda self: None)
    others = set(CHECKS) - {"structure", "compile"}
    (finding,) = [f for f in verify(subject, others) if f.name == "compile"]
    assert finding.ok is False
    assert "asked for" in finding.detail


def test_a_model_that_does_not_compile_unpatched_is_no_failure(subject):
    class Breaking(nn.Linear):
        def forward(self, x):
            torch._dynamo.graph_break()
            return super().forward(x)

    head = Breaking(64, VOCABULARY, bias=False)
    head.weight = subject.model.lm_head.weight
    subject.model.lm_head = head
    others = set(CHECKS) - {"structure", "compile"}
    (finding,) = [f for f in verify(subject, others) if f.name == "compile"]
    assert finding.ok is None
    assert finding.detail.startswith("the unpatched model does not compile here: ")


def test_a_model_that_cannot_be_patched_is_a_finding(tiny):
    vectors = EmotionVectors.from_tensors({"joy": torch.ones(3, 32)})
    subject = Subject(tiny(), word_tokenizer(), vectors)
    findings = verify(subject)
    assert findings[0].ok is False
    assert "belong to another model" in findings[0].detail
    assert {finding.detail for finding in findings[1:]} == {"the model cannot be patched"}


class Mixing(nn.Linear):
    """A head whose bits depend on the other sequences of the batch, as those of experts may."""

    def forward(self, x):
        return super().forward(x) + 1e-3 * x.mean()


def test_a_model_that_minds_its_neighbours_is_judged_at_the_sites(subject, tiny, vectors):
    head = Mixing(64, VOCABULARY, bias=False)
    model = tiny()
    head.weight = model.lm_head.weight
    model.lm_head = head
    (finding,) = [
        f
        for f in verify(
            Subject(model, word_tokenizer(), vectors()), set(CHECKS) - {"structure", "independence"}
        )
        if f.name == "independence"
    ]
    assert finding.ok
    assert "this model's own bits depend on the other sequences" in finding.detail


def test_a_model_that_does_not_repeat_its_bits_is_said_to(tiny, vectors):
    class Noisy(nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) + 1e-5 * self.calls

    head = Noisy(64, VOCABULARY, bias=False)
    model = tiny()
    head.weight = model.lm_head.weight
    model.lm_head = head
    subject = Subject(model, word_tokenizer(), vectors())
    found = {f.name: f for f in verify(subject, set(CHECKS) - {"structure", "exactness"})}
    assert found["exactness"].ok is None
    assert "does not give the same bits twice" in found["exactness"].detail


def test_a_recurrent_model_leaves_out_what_needs_a_cache(vectors):
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=3, pad_token_id=0)
    model = MambaForCausalLM(config).eval()
    found = {f.name: f for f in verify(Subject(model, word_tokenizer(), vectors("block")))}
    told = {name: f.detail for name, f in found.items() if f.ok is None}
    why = "the model takes no past_key_values"
    assert told == {"independence": why, "compile": why, "cuda-graphs": "no GPU"}
    assert f"left out: decoding in a cache ({why})" in found["exactness"].detail
    assert {name: f.detail for name, f in found.items() if f.ok is False} == {}


def test_prompts_are_random_where_no_tokenizer_knows_the_words(tiny, vectors):
    def knowing(text):
        return {"input_ids": [len(word) for word in text.split()]}

    model, of = tiny(), vectors()
    assert not Subject(model, knowing, of).random_prompts
    for other in (None, word_tokenizer()):  # to which all words are unknown
        assert Subject(model, other, of).random_prompts


def test_unknown_checks_are_refused(subject):
    with pytest.raises(ValueError, match="unknown check singing: choose from structure, "):
        verify(subject, ["singing"])


def test_sites_are_judged_where_a_model_minds_its_neighbours(tiny, vectors, breaking):
    def change(run, given):
        normed, y = run(*given)
        slots = slots_of(given)
        if y.shape[1] == 1 and (slots >= 0).any():
            y = torch.where((slots < 0).view(-1, 1, 1), nudged(y), y)
        return normed, y

    breaking(change, *FUSED)
    head = Mixing(64, VOCABULARY, bias=False)
    model = tiny()
    head.weight = model.lm_head.weight
    model.lm_head = head
    subject = Subject(model, word_tokenizer(), vectors())
    found = {f.name: f for f in verify(subject, set(CHECKS) - {"structure", "independence"})}
    assert found["independence"].ok is False
    assert "rows of a sequence that asks for nothing" in found["independence"].detail


def test_other_greedy_tokens_have_to_be_ties():
    logits = torch.tensor([[[1.0, 0.9, 0.0]]])
    before = {"generated tokens": torch.tensor([[0]]), "logits of generate": logits}
    after = {"generated tokens": torch.tensor([[1]])}
    assert checks._greedy(before, before, 1e-5) == "greedy tokens equal"
    assert checks._greedy(before, after, 0.06) == "greedy tokens equal but for 1 ties"
    with pytest.raises(Failed, match="another greedy token at step 0 of sequence 0, and no tie"):
        checks._greedy(before, after, 0.04)


def test_compiled_logits_have_to_be_those_of_eager_steps(subject):
    steps = compiled.StaticSteps(subject)
    with subject.patched() as steering:
        assert compiled._compare(subject, steering, steps, steps.eager) == (9, 0.0)
        with pytest.raises(Failed, match="asked for an emotion: logits 1"):
            compiled._compare(subject, steering, steps, lambda ids: 1.01 * steps.eager(ids))


def test_steering_has_to_reach_static_steps(subject, breaking):
    def change(run, given):
        *others, slots, ids, weights, law = given
        return run(*others, torch.full_like(slots, -1), ids, weights, law)

    breaking(change, "add_steer", *FUSED)
    steps = compiled.StaticSteps(subject)
    with subject.patched() as steering, pytest.raises(Failed, match="not steered when asked for"):
        compiled._compare(subject, steering, steps, steps.eager)
