"""Presets: the published methods, told by hooks that are written after their description."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
import torch
from conftest import LAYERS, WIDTH
from test_steering import left_padded, logits

from emokernel import EmotionVectors, patch
from emokernel.errors import EmokernelError, SteeringError

PRESET = "emotion-vectors"
EKMAN = ("anger", "disgust", "fear", "joy", "sadness")
TIMES = (0.5, 0.0, -1.0, 2.0, 0.25)


@pytest.fixture
def folder(tmp_path):
    """A folder of files as arXiv 2502.04075 publishes them."""
    generator = torch.Generator().manual_seed(3)
    for emotion in EKMAN:
        rows = 0.5 * torch.randn(LAYERS, 1, WIDTH, generator=generator)
        text = json.dumps({str(layer): row.tolist() for layer, row in enumerate(rows)})
        (tmp_path / f"tiny_{emotion}.json").write_text(text)
    return tmp_path


def steered(model, folder, times=TIMES):
    """The model, patched by the preset with the files' vectors and set to ``times``."""
    vectors = EmotionVectors.from_json(folder, prefix="tiny_")
    assert vectors.names == EKMAN
    patch(model, vectors, preset=PRESET).set(dict(zip(EKMAN, times, strict=True)))
    return model


@contextmanager
def hooked(model, folder, times=TIMES, position=-1, skipped=()):
    """The model as the published code leaves it; ``position``, ``skipped`` put it wrong on purpose.

    In the last position of every forward call, the attention's output of every layer gets the
    weighted sum of the emotions' vectors of that layer.
    """
    files = [json.loads((folder / f"tiny_{emotion}.json").read_text()) for emotion in EKMAN]

    def hook_of(layer):
        def hook(module, args, output):
            attended = output[0].clone()
            place = position % attended.shape[1]
            for weight, file in zip(times, files, strict=True):
                attended[:, place] += weight * torch.tensor(file[str(layer)][0])
            return attended, *output[1:]

        return hook

    blocks = model.transformer.h if hasattr(model, "transformer") else model.model.layers
    attentions = [block.attn if hasattr(block, "attn") else block.self_attn for block in blocks]
    handles = [
        attention.register_forward_hook(hook_of(layer))
        for layer, attention in enumerate(attentions)
        if layer not in skipped
    ]
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


def generated(model, ids, mask, steps=6, **kwargs):
    """(The sequences, the scores ``[steps, batch, vocabulary]``) of greedy decoding."""
    model.generation_config.eos_token_id = None
    output = model.generate(
        ids, attention_mask=mask, max_new_tokens=steps, do_sample=False, output_scores=True,
        return_dict_in_generate=True, **kwargs,
    )  # fmt: skip
    return output.sequences, torch.stack(output.scores)


def close(a, b):
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4)


PADS = [(0, 0, 0, 0), (0, 2, 3, 5)]
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gpt2"]


@pytest.mark.parametrize("pads", PADS, ids=["full", "padded"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_forward_call_is_that_of_the_published_hook(family, pads, tiny, folder, prompts):
    ids, mask = left_padded(prompts, pads)
    plain = logits(tiny(family), ids, attention_mask=mask)
    with hooked(tiny(family), folder) as model:
        expected = logits(model, ids, attention_mask=mask)
    got = logits(steered(tiny(family), folder), ids, attention_mask=mask)
    real = mask != 0
    torch.testing.assert_close(got[real], expected[real], rtol=1e-4, atol=1e-4)
    assert (expected[:, -1] - plain[:, -1]).abs().amax(-1).min() > 0.1


@pytest.mark.parametrize("pads", PADS, ids=["full", "padded"])
@pytest.mark.parametrize("family", FAMILIES)
def test_generate_is_that_of_the_published_hook(family, pads, tiny, folder, prompts):
    ids, mask = left_padded(prompts, pads)
    with hooked(tiny(family), folder) as model:
        sequences, scores = generated(model, ids, mask)
    got_sequences, got = generated(steered(tiny(family), folder), ids, mask)
    assert torch.equal(got_sequences, sequences)
    torch.testing.assert_close(got, scores, rtol=1e-4, atol=1e-4)
    assert not close(scores, generated(tiny(family), ids, mask)[1])


@pytest.mark.parametrize("times", [(0, 0, 0, 4, 0), (-1, 0, 0, 0, 0), (2, 2, 2, 2, 2)])
def test_strengths_are_taken_as_given(times, tiny, folder, prompts):
    ids, mask = left_padded(prompts)
    with hooked(tiny(), folder, times) as model:
        sequences, scores = generated(model, ids, mask)
    got_sequences, got = generated(steered(tiny(), folder, times), ids, mask)
    assert torch.equal(got_sequences, sequences)
    torch.testing.assert_close(got, scores, rtol=1e-4, atol=1e-4)


def test_a_teacher_forced_forward_is_the_published_decoding(tiny, folder, prompts):
    ids, mask = left_padded(prompts)
    with hooked(tiny(), folder) as model:
        sequences, scores = generated(model, ids, mask)
    model = tiny()
    steering = patch(model, EmotionVectors.from_json(folder, prefix="tiny_"), preset=PRESET)
    whole = torch.cat([mask, torch.ones_like(sequences[:, 7:])], 1)
    mix = dict(zip(EKMAN, TIMES, strict=True))
    with steering.requests([mix] * 4, prompt_lengths=mask.sum(1), attention_mask=mask):
        forced = logits(model, sequences, attention_mask=whole)
    torch.testing.assert_close(forced[:, 6:-1].transpose(0, 1), scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fault", [{"position": -2}, {"position": 0}, {"skipped": (1,)}])
def test_the_comparison_sees_a_wrong_position_and_a_missing_layer(fault, tiny, folder, prompts):
    ids, mask = left_padded(prompts)
    with hooked(tiny(), folder, **fault) as model:
        call, (_, scores) = logits(model, ids, attention_mask=mask), generated(model, ids, mask)
    model = steered(tiny(), folder)
    assert not close(logits(model, ids, attention_mask=mask)[:, -1], call[:, -1])
    assert not close(generated(model, ids, mask)[1][0], scores[0])


def test_without_a_cache_tokens_keep_what_they_had_with_one(tiny, folder, prompts):
    ids, mask = left_padded(prompts)
    model = steered(tiny(), folder)
    sequences, scores = generated(model, ids, mask)
    got_sequences, got = generated(model, ids, mask, use_cache=False)
    assert torch.equal(got_sequences, sequences)
    torch.testing.assert_close(got, scores, rtol=1e-4, atol=1e-4)


def test_the_preset_is_what_its_choices_are(tiny, vectors, prompts):
    results = []
    for choices in (
        {"preset": PRESET},
        {"site": "attention", "law": "add", "dose": "absolute", "positions": "last"},
        {"preset": PRESET, "law": "add", "site": "attention", "layers": range(LAYERS)},
    ):
        model = tiny()
        patch(model, vectors(), **choices).set("joy", 2.0)
        results.append(logits(model, prompts))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_requests_still_override_the_preset(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors(), preset=PRESET)
    steering.set("joy", law="preserve", positions="all")
    overridden = logits(model, prompts)
    steering.unpatch()
    patch(model, vectors()).set("joy")
    assert torch.equal(overridden, logits(model, prompts))


def test_the_site_is_the_presets(tiny, vectors):
    report = patch(tiny(), vectors("block"), preset=PRESET).report()
    assert report.site == "attention"
    assert "made at site 'block'" in str(report)


def test_layers_without_vectors_may_be_left_out(tiny, vectors):
    tensor = vectors().tensor.clone()
    tensor[1] = 0
    some = EmotionVectors(vectors().names, tensor, "attention")
    assert len(patch(tiny(), some, preset=PRESET, layers=[0, 2]).report().layers) == 2
    with pytest.raises(EmokernelError, match="no such layers"):
        patch(tiny(), some, preset=PRESET, layers=range(LAYERS + 1))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"site": "block"}, "site='block' contradicts the preset 'emotion-vectors'"),
        ({"law": "preserve"}, "law='preserve' contradicts .*, which means .*law add"),
        ({"dose": "relative"}, "dose='relative' contradicts"),
        ({"positions": "all"}, "positions='all' contradicts"),
        ({"layers": [0, 1]}, r"layers=\[0, 1\] contradicts .*layers all that the vectors have"),
        ({"law": "keep"}, "law='keep' contradicts"),
    ],
)
def test_what_contradicts_the_preset_is_refused(choice, message, tiny, vectors):
    with pytest.raises(SteeringError, match=message):
        patch(tiny(), vectors(), preset=PRESET, **choice)


@pytest.mark.parametrize("name", ["emotion_vectors", "", 3, ["emotion-vectors"]])
def test_unknown_presets_are_refused(name, tiny, vectors):
    with pytest.raises(SteeringError, match=r"unknown preset .*: choose one of emotion-vectors"):
        patch(tiny(), vectors(), preset=name)


@pytest.mark.parametrize(
    ("choice", "message"),
    [({"law": "keep"}, "unknown law"), ({"dose": "much"}, "unknown dose"),
     ({"positions": "first"}, "unknown positions"), ({"site": "mlp"}, "unknown site")],
)  # fmt: skip
def test_unknown_choices_are_refused_without_a_preset(choice, message, tiny, vectors):
    with pytest.raises(EmokernelError, match=message):
        patch(tiny(), vectors(), **choice)
