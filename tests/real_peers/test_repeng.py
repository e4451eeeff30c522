"""Control vectors there and back between emokernel and repeng, and what both do with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from real_peers.ours import agreement, logits, moved

import emokernel
from emokernel import EmotionVectors
from emokernel.vectors.formats import write

MIX = {"joy": 0.4, "sadness": -0.25}
PAIRS = [
    (f"{name} says: {glad}", f"{name} says: {sad}")
    for name, glad, sad in (
        ("Ann", "What a wonderful day, I could sing", "What a terrible day, I could cry"),
        ("Ben", "We won and I am so happy", "We lost and I am so sad"),
        ("Cleo", "I love this place, it is full of light", "I hate this place, it is so dark"),
        ("Dan", "My friends are here and we laugh", "My friends are gone and I am alone"),
        ("Eve", "The news is good, what a joy", "The news is bad, what a sorrow"),
    )
]


@pytest.fixture(scope="module")
def files(shipped, dense, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    write(shipped, folder, format="gguf", model_hint="llama")
    write(dense.select(["one"]).at_layers(range(1, 30)), folder / "dense.gguf", model_hint="llama")
    return folder


@pytest.fixture(scope="module")
def theirs(peer, folder, files, prompts):
    """What repeng answers."""
    joy, sadness, dense = (str(files / f"{name}.gguf") for name in ("joy", "sadness", "dense"))
    mixed = [[joy, MIX["joy"]], [sadness, MIX["sadness"]]]
    cases = {
        "joy": {"files": [[joy, 0.4]]},
        "mixed": {"files": mixed},
        "dense": {"files": [[dense, 1.0]]},
        "joy, normalize": {"files": [[joy, 0.4]], "normalize": True},
        "dense, normalize": {"files": [[dense, 1.0]], "normalize": True},
        "trained": {"files": [[str(files / "trained.gguf"), 4.0]]},
    }
    trained = {
        "texts": PAIRS, "tokenizer": str(folder / "tokenizer.json"),
        "target": cases["trained"]["files"][0][0],
    }  # fmt: skip
    return peer("repeng", {
        "model": str(folder), "prompts": prompts, "cases": cases, "trained": trained,
        "copied": [dense, str(files / "copied.gguf")],
    })  # fmt: skip


def test_the_model_is_the_same_model(theirs, model, prompts):
    worst = np.abs(theirs["arrays"]["plain"] - logits(model, prompts)).max()
    print(f"repeng {theirs['version']}, transformers {theirs['transformers']}: {worst:.1e}")
    assert worst < 1e-3


@pytest.mark.parametrize("name", ["joy", "mixed", "dense", "joy, normalize", "dense, normalize",
                                  "trained"])  # fmt: skip
def test_it_steers_alike(name, theirs, files, model, prompts, shipped, dense):
    emotion, _, normalize = name.partition(", ")
    law = "preserve" if normalize else "add"
    vectors, mix = shipped, MIX if emotion == "mixed" else {emotion: 0.4}
    if emotion == "dense":
        vectors, mix = dense.at_layers(range(1, 30)), {"one": 1.0}
    elif emotion == "trained":
        vectors, mix = EmotionVectors.load(files / "trained.gguf"), {"trained": 4.0}
    plain, shift = logits(model, prompts), theirs["arrays"][name] - theirs["arrays"]["plain"]
    each = [
        agreement(shift, logits(model, prompts, moved(vectors, by), mix, law) - plain)
        for by in (0, -1, 1)
    ]
    print(f"{name} ({law}): {each[0]} | a layer earlier: {each[1]} | later: {each[2]}")
    assert each[0].error < 1e-3
    assert min(each[1].error, each[2].error) > 0.05


@pytest.mark.parametrize("name", ["joy", "joy, normalize"])
def test_it_writes_the_same_text(name, theirs, model, prompts, shipped):
    law = "preserve" if "normalize" in name else "add"
    steering = emokernel.patch(model, shipped, site="block", law=law, dose="absolute")
    try:
        steering.set({"joy": 0.4})
        ids = torch.tensor(prompts[:1])
        mask = torch.ones_like(ids)
        made = model.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False)
    finally:
        steering.unpatch()
    assert made[0, ids.shape[1] :].tolist() == theirs["arrays"][f"text of {name}"].tolist()


def test_what_repeng_trained_is_read_bit_for_bit(theirs, files):
    vectors = EmotionVectors.load(files / "trained.gguf")
    rows = {
        int(name.split()[1]): row for name, row in theirs["arrays"].items()
        if name.startswith("trained ")
    }  # fmt: skip
    print(f"layers {min(rows)} to {max(rows)}, read as {vectors.layers[0]} to {vectors.layers[-1]}")
    assert set(rows) == set(vectors.layers) == set(range(1, 30))
    assert all(np.array_equal(vectors["trained"][layer], row) for layer, row in rows.items())


def test_what_repeng_read_of_ours_and_wrote_again_is_what_it_was(theirs, files):
    copied = EmotionVectors.load(files / "copied.gguf")
    assert torch.equal(copied["copied"], EmotionVectors.load(files / "dense.gguf")["one"])
