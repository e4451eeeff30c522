"""Writing texts: batches, seeds, samples that are not accepted."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from emokernel import EmokernelError, Request, patch
from emokernel.lab.measure import generation
from emokernel.lab.measure.generation import Job, write
from emokernel.lab.measure.sampling import Sampling, sample

SAMPLING = Sampling(max_new_tokens=6, temperature=0.8, top_p=0.9)


@pytest.fixture(params=["left, with pad token", "right, without"])
def tokenizer(request):
    vocabulary = {f"w{n}": n for n in range(96)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    options = {"padding_side": "left", "pad_token": "w0"} if "left" in request.param else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)


def written(model, tokenizer, jobs, seed=0, **options):
    steering = patch(model, **options.pop("patched"))
    try:
        batches = write(model, tokenizer, steering, jobs, seed, sampling=SAMPLING, **options)
        return [one for batch in batches for one in batch]
    finally:
        steering.unpatch()


def test_a_job_alone_is_what_the_model_samples(tiny, vectors, tokenizer):
    model = tiny()
    job = Job("w5 w6")
    (one,) = written(model, tokenizer, [job], 3, patched={"vectors": vectors()})
    ids = tokenizer("w5 w6").input_ids
    (answer,) = sample(model, tokenizer, [ids], SAMPLING, seeds=[job.seed(3, 0)])
    assert one.text == tokenizer.decode([*ids, *answer])
    assert one.pair == ("w5 w6", one.text[5:])
    assert one.text[5] == " ", "decoders drop the space before the first word of a text"


def test_a_prefix_is_read_but_not_part_of_the_text(tiny, vectors, tokenizer):
    jobs = [Job("w5 w6"), Job(" w6", prefix="w5", query="w5 w6")]
    plain, prefixed = (
        written(tiny(), tokenizer, [job], patched={"vectors": vectors()})[0] for job in jobs
    )
    assert prefixed.text == plain.text.removeprefix("w5")
    assert plain.read == prefixed.read


def test_rows_keep_their_requests_and_texts_their_seeds(tiny, vectors, tokenizer):
    jobs = [
        Job("w1 w2 w3"[: 2 + 3 * (n % 3)], Request("joy", 40.0) if n % 2 else None)
        for n in range(7)
    ]
    options = {"patched": {"vectors": vectors()}, "batch_size": 3}
    first = written(tiny(), tokenizer, jobs, 1, **options)
    assert [one.job for one in first] == jobs
    assert first == written(tiny(), tokenizer, jobs, 1, **options)
    assert first != written(tiny(), tokenizer, jobs, 2, **options)
    unsteered = [Job(job.opening) for job in jobs]
    plain = written(tiny(), tokenizer, unsteered, 1, **options)
    same = [a.text == b.text for a, b in zip(first, plain, strict=True)]
    assert any(same[::2])
    assert not all(same[1::2])


def test_what_follows_the_end_is_no_text(tiny, vectors, tokenizer):
    model = tiny()
    model.generation_config.eos_token_id = list(range(48, 96))
    answers = written(
        model, tokenizer, [Job(f"w{n}") for n in range(12)], patched={"vectors": vectors()}
    )
    words = [[int(word[1:]) for word in one.text.split()] for one in answers]
    assert max(map(max, words)) < 48
    lengths = [len(of) - 1 for of in words]
    assert [one.cut for one in answers] == [n == SAMPLING.max_new_tokens for n in lengths]
    assert any(length < SAMPLING.max_new_tokens for length in lengths)
    assert not any(one.text.endswith("w0 w0") for one in answers)


def test_padding_changes_nothing(tiny, vectors, tokenizer):
    greedy = Sampling(max_new_tokens=6, temperature=0)
    model = tiny()
    jobs = [Job(opening) for opening in ("w1", "w5 w6 w7 w8", "w9 w10")]
    steering = patch(model, vectors())
    (together,) = write(model, tokenizer, steering, jobs, 0, sampling=greedy)
    for job, one in zip(jobs, together, strict=True):
        ((alone,),) = write(model, tokenizer, steering, [job], 0, sampling=greedy)
        assert alone.text == one.text


def test_texts_depend_on_their_opening_and_seed_and_not_on_their_batch(tiny, vectors, tokenizer):
    jobs = [Job(f"w{n}", query=query) for n in (5, 5, 6) for query in ("", "same")]
    before = torch.random.get_rng_state()
    found = written(tiny(), tokenizer, jobs, patched={"vectors": vectors()}, batch_size=4)
    alone = [written(tiny(), tokenizer, [job], patched={"vectors": vectors()})[0] for job in jobs]
    assert [one.text for one in found] == [one.text for one in alone]
    assert found[0].text == found[2].text != found[4].text
    assert found[0].text != found[1].text
    assert jobs[1].seed(3, 1) == jobs[5].seed(3, 1) != jobs[0].seed(3, 1)
    assert len({jobs[1].seed(seed, draw) for seed in (0, 1) for draw in (0, 1)}) == 4
    assert torch.equal(torch.random.get_rng_state(), before)


def test_samples_that_are_not_accepted_are_drawn_again(monkeypatch):
    drawn = iter([[("A fine day.", True), ("No.", False)], [("A good day.", False)]])
    monkeypatch.setattr(generation, "_sample", lambda *_: next(drawn))
    jobs = [Job("A"), Job("No")]
    (batch,) = write(None, None, None, jobs, 0, sampling=SAMPLING, accept=lambda t: t != "No.")
    assert [(one.job, one.text, one.redrawn, one.cut) for one in batch] == [
        (jobs[0], "A fine day.", 0, True),
        (jobs[1], "A good day.", 1, False),
    ]


def test_a_model_that_never_writes_anything_acceptable_is_an_error(monkeypatch):
    monkeypatch.setattr(generation, "_sample", lambda *_: [("No.", False)])
    with pytest.raises(EmokernelError, match="nothing acceptable in 30 draws"):
        next(write(None, None, None, [Job("N")], 0, sampling=SAMPLING, accept=lambda _: False))
