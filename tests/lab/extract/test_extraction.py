"""Extraction against a direct computation, one text at a time."""

from __future__ import annotations

import copy

import pytest
import torch
from tokenizers import processors

from emokernel import EmokernelError, EmotionVectors, patch
from emokernel.lab.extract import extraction

EMOTIONAL = {
    "joy": ["I am happy", "happy cat runs here today", ("I am ", "happy now")],
    "anger": ["cross dog", "I am cross here now badly"],
}
NEUTRAL = ["rain today", "cat sleeps here", "sun"]


def mean_activation(activations, model, tokenizer, texts, site):
    """[L, d] over the tokens of every text but special tokens and contexts, one by one."""
    kept = []
    for text in texts:
        context, text = ("", text) if isinstance(text, str) else text
        ids = tokenizer(context + text, return_tensors="pt").input_ids
        kept.append(activations(model, ids, site)[:, 1 + len(context.split()) :])
    return torch.cat(kept, dim=1).double().mean(1)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
@pytest.mark.parametrize("site", ["attention", "block"])
def test_extraction_is_the_difference_of_means(site, batch_size, tiny, tokenizer, activations):
    model = tiny()
    vectors = EmotionVectors.extract(
        model, tokenizer, EMOTIONAL, NEUTRAL, site=site, batch_size=batch_size, progress=False
    )
    assert not any(module._forward_hooks for module in model.modules())
    assert (vectors.names, vectors.site) == (("joy", "anger"), site)
    baseline = mean_activation(activations, model, tokenizer, NEUTRAL, site)
    for name, texts in EMOTIONAL.items():
        expected = mean_activation(activations, model, tokenizer, texts, site) - baseline
        torch.testing.assert_close(vectors[name].double(), expected, rtol=1e-4, atol=1e-5)
    assert vectors.provenance["counts"]["joy"] == {"texts": 3, "tokens": 10}


def test_the_first_token_that_is_read_is_no_texts_own(tiny, tokenizer, activations):
    """It has rows of another kind in many models; here no special token comes before it."""
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
    model, texts = tiny(), ["happy cat runs here today", "cross dog"]
    vectors = EmotionVectors.extract(
        model, tokenizer, {"joy": texts[:1]}, texts[1:], site="block", progress=False
    )
    joy, neutral = (
        mean_activation(activations, model, tokenizer, [text], "block") for text in texts
    )
    torch.testing.assert_close(vectors["joy"].double(), joy - neutral, rtol=1e-4, atol=1e-5)
    one = EmotionVectors.extract(model, tokenizer, {"joy": ["happy"]}, texts, progress=False)
    assert one.provenance["counts"]["joy"] == {"texts": 1, "tokens": 1}  # it has no other


def test_each_emotion_may_have_a_neutral_text_of_its_own(tiny, tokenizer):
    model, options = tiny(), {"site": "attention", "progress": False}
    neutral = {"anger": NEUTRAL[:1], "joy": NEUTRAL[1:]}
    together = EmotionVectors.extract(model, tokenizer, EMOTIONAL, neutral, **options)
    for name, texts in EMOTIONAL.items():
        alone = EmotionVectors.extract(model, tokenizer, {name: texts}, neutral[name], **options)
        torch.testing.assert_close(together[name], alone[name])
    with pytest.raises(EmokernelError, match="same emotions"):
        EmotionVectors.extract(model, tokenizer, EMOTIONAL, {"joy": NEUTRAL}, **options)


def test_a_tokenizer_without_pad_token_will_do(tiny, tokenizer):
    options = {"progress": False, "batch_size": 2}
    padded = EmotionVectors.extract(tiny(), tokenizer, EMOTIONAL, NEUTRAL, **options)
    plain = copy.deepcopy(tokenizer)
    plain.pad_token = None
    unpadded = EmotionVectors.extract(tiny(), plain, EMOTIONAL, NEUTRAL, **options)
    assert torch.equal(padded.tensor, unpadded.tensor)


def test_a_patched_model_is_refused(tiny, tokenizer, vectors):
    model = tiny()
    patch(model, vectors())
    with pytest.raises(EmokernelError, match="unpatch"):
        EmotionVectors.extract(model, tokenizer, EMOTIONAL, NEUTRAL, progress=False)


def test_texts_may_come_from_a_generator(tiny, tokenizer):
    def texts():
        for _ in range(5):
            yield "I am happy"

    options = {"progress": False, "batch_size": 2}
    streamed = EmotionVectors.extract(tiny(), tokenizer, {"joy": texts()}, NEUTRAL, **options)
    listed = EmotionVectors.extract(tiny(), tokenizer, {"joy": ["I am happy"]}, NEUTRAL, **options)
    torch.testing.assert_close(streamed.tensor, listed.tensor)


def test_extracted_vectors_survive_a_file_and_steer(tiny, tokenizer, tmp_path, prompts):
    model = tiny()
    vectors = EmotionVectors.extract(
        model, tokenizer, EMOTIONAL, NEUTRAL, data="a few words", progress=False
    )
    vectors.save(tmp_path / "v.safetensors")
    loaded = EmotionVectors.load(tmp_path / "v.safetensors")
    assert torch.equal(loaded.tensor, vectors.tensor)
    assert loaded.provenance == vectors.provenance
    assert loaded.provenance["data"] == "a few words"
    with torch.no_grad():
        before = model(prompts).logits
        patch(model, loaded).set("joy")
        assert not torch.equal(model(prompts).logits, before)


@pytest.mark.parametrize(
    ("emotional", "neutral", "message"),
    [
        ({}, NEUTRAL, "no emotional text"),
        ({"joy": []}, NEUTRAL, "'joy'"),
        ({"joy": ["I am"]}, [], "neutral text to compare 'joy'"),
        ({"joy": [("I am", "")]}, NEUTRAL, "'joy'"),
        ({"joy": "I am"}, NEUTRAL, "one string"),
    ],
)
def test_text_that_cannot_be_averaged_is_refused(emotional, neutral, message, tiny, tokenizer):
    with pytest.raises(EmokernelError, match=message):
        EmotionVectors.extract(tiny(), tokenizer, emotional, neutral, progress=False)


def test_a_text_in_two_contexts_is_held_out_as_one(tiny, tokenizer):
    texts = [f"{word} runs" for word in "sun rain cat dog now here happy cross I am".split()]

    def behind(context):
        return {"joy": [(context, text) for text in texts]}

    options = {"heldout": 0.4, "progress": False, "method": "pca"}
    vectors = EmotionVectors.extract(
        tiny(), tokenizer, behind("happy "), behind("today "), **options
    )
    assert vectors.diagnostics["heldout_texts"] == {"joy": 4}
    assert all(0 <= auc <= 1 for (auc,) in vectors.diagnostics["auc_neutral"])
    mispaired = EmotionVectors.extract(
        tiny(), tokenizer, behind("happy "), {"joy": behind("today ")["joy"][::-1]}, **options
    )
    assert not torch.allclose(mispaired.tensor, vectors.tensor, rtol=1e-3)


def test_layers_that_were_not_asked_for_stay_zero(tiny, tokenizer):
    options = {"progress": False, "site": "attention"}
    every = EmotionVectors.extract(tiny(), tokenizer, EMOTIONAL, NEUTRAL, **options)
    some = EmotionVectors.extract(tiny(), tokenizer, EMOTIONAL, NEUTRAL, layers=[2, 0], **options)
    assert some.layers == (0, 2)
    assert torch.equal(some.tensor[[0, 2]], every.tensor[[0, 2]])
    assert some.diagnostics["stream_norm"][1] is None
    with pytest.raises(EmokernelError, match="layers must be numbers from 0 to 2"):
        EmotionVectors.extract(tiny(), tokenizer, EMOTIONAL, NEUTRAL, layers=[3], **options)


def test_layers_are_counted_in_the_model_where_blocks_were_taken_out(tiny, tokenizer):
    """And not in a config that was left alone."""
    model = tiny()
    model.model.layers = model.model.layers[:2]
    options = {"progress": False, "site": "block"}
    vectors = EmotionVectors.extract(model, tokenizer, EMOTIONAL, NEUTRAL, layers=[1], **options)
    assert (vectors.num_layers, vectors.layers) == (2, (1,))
    with pytest.raises(EmokernelError, match="layers must be numbers from 0 to 1"):
        EmotionVectors.extract(model, tokenizer, EMOTIONAL, NEUTRAL, layers=[2], **options)


def test_an_unknown_option_is_refused(tiny, tokenizer):
    with pytest.raises(TypeError, match="tokenz"):
        EmotionVectors.extract(tiny(), tokenizer, EMOTIONAL, NEUTRAL, tokenz="last")


def test_separation_is_measured_with_vectors_of_the_training_part(tiny, tokenizer, monkeypatch):
    diagnose, measured = extraction.diagnose, []

    def watched(vectors, training_vectors, *args, **kwargs):
        measured.append((vectors, training_vectors))
        return diagnose(vectors, training_vectors, *args, **kwargs)

    monkeypatch.setattr(extraction, "diagnose", watched)
    emotional, options = {"joy": [*EMOTIONAL["joy"], "sun", "cat"]}, {"progress": False}
    EmotionVectors.extract(tiny(), tokenizer, emotional, NEUTRAL * 2, heldout=0.4, **options)
    ((every, training),) = measured
    assert training.shape == every.shape
    assert abs(training - every).max() > 1e-3


@pytest.mark.parametrize("by_emotion", [False, True], ids=["one set", "by emotion"])
def test_texts_that_are_the_neutral_ones_are_an_error(by_emotion, tiny, tokenizer):
    texts = ["I am happy", "sun"]
    neutral = {"joy": texts[::-1]} if by_emotion else texts
    with pytest.raises(EmokernelError, match="'joy' and the neutral ones are the same tokens"):
        EmotionVectors.extract(tiny(), tokenizer, {"joy": texts}, neutral, progress=False)


def test_vectors_that_are_only_rounding_are_an_error(tiny, tokenizer):
    """The same texts, some of them more often: the means are the same but for rounding."""
    texts = ["I am happy", "sun"]
    for method in ("mean", "pca"):
        with pytest.raises(EmokernelError, match=r"of 'joy' are zero in every layer: the texts"):
            EmotionVectors.extract(
                tiny(), tokenizer, {"anger": EMOTIONAL["anger"], "joy": texts * 2}, texts,
                progress=False, heldout=0, method=method, batch_size=3,
            )  # fmt: skip


def test_a_single_emotion_without_its_base_is_an_error_before_anything_is_read(tiny, tokenizer):
    with pytest.raises(EmokernelError, match=r"a single emotion is all base.*smaller remove_base"):
        EmotionVectors.extract(
            tiny(), tokenizer, {"joy": ["sun"]}, NEUTRAL, progress=False, remove_base=1.0
        )


def test_emotions_that_are_all_base_are_an_error(tiny, tokenizer):
    emotional = dict.fromkeys(("joy", "delight"), EMOTIONAL["joy"])
    with pytest.raises(EmokernelError, match=r"'joy', 'delight' are zero .*remove_base.*less"):
        EmotionVectors.extract(
            tiny(), tokenizer, emotional, NEUTRAL, progress=False, remove_base=1.0
        )
