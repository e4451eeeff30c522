"""Vectors from a model's own answers."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from emokernel import EmokernelError
from emokernel.lab.extract import Options, Sampling, answers, extract_answers
from emokernel.lab.extract.answers import answer, prompts_of
from emokernel.lab.extract.prompts import Conditioning
from emokernel.lab.extract.queries import Queries
from emokernel.lab.extract.store import Store

OPENINGS = ["cat runs", "sun", "dog sleeps well", "I am here now", "rain"]
QUERIES = Queries([(None, text) for text in OPENINGS], {"name": "a few words"})
CONDITIONING = Conditioning.prefix("I am {emotion} {query}", "I am here {query}")
EMOTIONS = ("happy", "cross")
GREEDY = Sampling(max_new_tokens=6, temperature=0)
SAMPLED = Sampling(max_new_tokens=6)
QUIET = {"progress": False, "heldout": 0.4}


def answered(model, tokenizer, folder, sampling=SAMPLED, seed=0):
    asked = dict.fromkeys(EMOTIONS, OPENINGS)
    prompts, groups = prompts_of(tokenizer, asked, CONDITIONING)
    options = Options(batch_tokens=40, seed=seed)
    samples = answer(
        model, tokenizer, prompts, Store(folder, {}), sampling, options, progress=False
    )
    return prompts, groups, samples


def test_emotions_share_the_neutral_prompt_of_a_query(tokenizer):
    asked = {"happy": OPENINGS[:3], "cross": OPENINGS[1:]}
    prompts, (happy, cross) = prompts_of(tokenizer, asked, CONDITIONING)
    assert len(prompts) == 3 + 4 + 5
    assert happy.neutral[1:] == cross.neutral[:2]
    assert tokenizer.decode(prompts[happy.rows[0]].ids) == "<s> I am happy cat runs"
    assert tokenizer.decode(prompts[cross.neutral[-1]].ids) == "<s> I am here rain"
    for group in (happy, cross):
        for own, other in zip(group.rows, group.neutral, strict=True):
            assert prompts[own].query == prompts[other].query
            assert (prompts[own].emotion, prompts[other].emotion) == (group.emotion, None)


@pytest.mark.parametrize("side", ["left", "right"])
def test_greedy_answers_are_those_of_each_prompt_alone(side, tiny, tokenizer, tmp_path):
    model = tiny()
    tokenizer.padding_side = side
    prompts, _, samples = answered(model, tokenizer, tmp_path, GREEDY)
    for prompt, sample in zip(prompts, samples, strict=True):
        ids = torch.tensor([prompt.ids])
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False
        )[0]
        if expected[-1] == 2:
            expected = expected[:-1]
        assert sample.ids.tolist() == expected.tolist()
        assert not sample.own[: len(prompt.ids)].any()


@pytest.fixture
def saying(monkeypatch):
    """``saying(says)``: from now on every context is answered by what it says, token ids."""

    def say(says):
        monkeypatch.setattr(
            answers, "sample", lambda model, tokenizer, contexts, *_, **__: [*map(says, contexts)]
        )

    return say


def test_special_tokens_are_not_an_answers_own(tiny, tokenizer, tmp_path, saying):
    saying(lambda context: [7, 1, 8])
    prompts, _, samples = answered(tiny(), tokenizer, tmp_path)
    for prompt, sample in zip(prompts, samples, strict=True):
        assert sample.ids[len(prompt.ids) :].tolist() == [7, 1, 8]
        assert sample.own[len(prompt.ids) :].tolist() == [True, False, True]


def test_the_seed_decides_and_the_users_random_numbers_are_left_alone(tiny, tokenizer, tmp_path):
    model = tiny()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    runs = []
    for number, seed in enumerate([0, 0, 1]):
        _, _, samples = answered(model, tokenizer, tmp_path / str(number), seed=seed)
        runs.append([sample.ids.tolist() for sample in samples])
    assert runs[0] == runs[1] != runs[2]
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("tokens", ["mean", "last", "each"])
@pytest.mark.parametrize("site", ["attention", "block"])
def test_vectors_are_differences_over_the_answers_tokens(
    site, tokens, tiny, tokenizer, tmp_path, activations
):
    model = tiny()
    found = extract_answers(
        model, tokenizer, QUERIES, CONDITIONING, emotions=EMOTIONS, sampling=SAMPLED, site=site,
        tokens=tokens, batch_tokens=40, resume=tmp_path / "a", **QUIET,
    )  # fmt: skip
    asked = {
        emotion: [line["query"] for line in lines(tmp_path / "a") if line["emotion"] == emotion]
        for emotion in EMOTIONS
    }
    by_prompt = {(line["emotion"], line["query"]): line["tokens"] for line in lines(tmp_path / "a")}
    for emotion in EMOTIONS:
        kept = {True: [], False: []}
        for query in asked[emotion]:
            for emotional in (True, False):
                word = emotion if emotional else "here"
                context = tokenizer(f"I am {word} {query}").input_ids
                own = by_prompt[emotion if emotional else None, query]
                rows = activations(model, torch.tensor([context + own]), site)[:, len(context) :]
                rows = rows[:, [token not in tokenizer.all_special_ids for token in own]].double()
                mean = rows.mean(1, keepdim=True)
                kept[emotional].append({"mean": mean, "last": rows[:, -1:], "each": rows}[tokens])
        means = {emotional: torch.cat(rows, 1).mean(1) for emotional, rows in kept.items()}
        torch.testing.assert_close(
            found[emotion].double(), means[True] - means[False], rtol=1e-3, atol=1e-5
        )


def lines(folder):
    """What the store in ``folder`` holds of answers."""
    _, *kept = (folder / "journal.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["value"] for line in kept]


def test_provenance_tells_how_it_was_made(tiny, tokenizer):
    found = extract_answers(
        tiny(), tokenizer, QUERIES, CONDITIONING, emotions=EMOTIONS, sampling=SAMPLED,
        model_id="tiny", per_emotion=4, seed=3, **QUIET,
    )  # fmt: skip
    about = found.provenance
    assert about["model"] == "tiny"
    assert about["data"]["queries"] == {"name": "a few words"}
    assert about["data"]["conditioning"]["variants"] == [list(CONDITIONING.variants[0])]
    assert about["data"]["sampling"] == {"max_new_tokens": 6, "temperature": 0.8, "top_p": 0.9}
    assert about["data"]["empty_pairs"] == {"happy": 0, "cross": 0}
    assert about["options"]["seed"] == 3
    assert about["counts"]["happy"]["texts"] == about["counts"]["neutral"]["texts"] == 4
    assert set(about["versions"]) == {"emokernel", "torch", "transformers"}
    assert found.diagnostics["heldout_texts"] == {"happy": 1, "cross": 1}


def test_pairs_with_an_empty_answer_are_dropped_and_counted(tiny, tokenizer, saying):
    saying(lambda context: [] if len(context) > 5 else [7])
    found = extract_answers(tiny(), tokenizer, QUERIES, CONDITIONING, emotions=EMOTIONS, **QUIET)
    assert found.provenance["data"]["empty_pairs"] == {"happy": 3, "cross": 3}
    assert found.provenance["counts"]["happy"] == {"texts": 2, "tokens": 2}


def test_a_model_that_answers_nothing_is_an_error(tiny, tokenizer, saying):
    saying(lambda context: [])
    with pytest.raises(EmokernelError, match="nothing to any of the 5 queries for 'happy'"):
        extract_answers(tiny(), tokenizer, QUERIES, CONDITIONING, emotions=EMOTIONS, **QUIET)


def test_without_pad_token_or_chat_template(tiny, tokenizer):
    plain = copy.deepcopy(tokenizer)
    plain.pad_token = None
    common = QUERIES, CONDITIONING
    options = {"emotions": EMOTIONS, "sampling": GREEDY, **QUIET}
    expected = extract_answers(tiny(), tokenizer, *common, **options)
    found = extract_answers(tiny(), plain, *common, **options)
    np.testing.assert_allclose(found.tensor, expected.tensor, atol=1e-5)
    with pytest.raises(EmokernelError, match="no chat template"):
        extract_answers(tiny(), tokenizer, QUERIES, Conditioning.chat(), emotions=["happy"])
    with pytest.raises(EmokernelError, match="no emotions given"):
        extract_answers(tiny(), tokenizer, QUERIES, CONDITIONING)


def test_a_bfloat16_model_answers_too(tiny, tokenizer):
    found = extract_answers(
        tiny(dtype=torch.bfloat16), tokenizer, QUERIES, CONDITIONING, emotions=EMOTIONS, **QUIET
    )
    assert found.tensor.dtype is torch.float32
    assert found.provenance["dtype"] == "bfloat16"
    assert found.layers == (0, 1, 2)


def test_a_prompt_with_the_emotion_that_is_the_neutral_one_is_an_error(tiny, tokenizer):
    """The tokenizer knows neither word, so both are one unknown token."""
    conditioning = Conditioning.prefix("{emotion} {query}", "calm {query}")
    with pytest.raises(EmokernelError, match=r"asked with 'joy' and without.*the same tokens"):
        extract_answers(
            tiny(), tokenizer, Queries([(None, "sun")]), conditioning, emotions=["joy"],
            progress=False,
        )  # fmt: skip
