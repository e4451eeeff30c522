"""The transformer judge on a tiny encoder that is made here; tests/real has the true one."""

from __future__ import annotations

import copy
import json
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from embedded import transformer_judge as script
from embedded.corpus import training_half
from embedded.low_rank import Settings, Trainee, train_changes
from embedded.relabel import distributions
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from emokernel.demo.vectors import load_vectors
from emokernel.errors import EmokernelError
from emokernel.lab.evaluate.ceiling import shipped
from emokernel.lab.evaluate.evaluation import check_inputs
from emokernel.lab.judges import TRANSFORMER, load_classifier
from emokernel.lab.judges.goemotions_minilm import (
    GOEMOTIONS_MINILM_PATH,
    GoEmotionsMiniLM,
    SentenceClassifier,
    add_learnt,
    load_judge,
)
from emokernel.lab.judges.judge import Judge, unpacked
from emokernel.lab.measure.classifiers import same_classifier, weights_digest
from emokernel.lab.measure.sentences import load_encoder

LABELS = ("joy", "anger", "neutral")
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the is with . happy angry here torn dog cat house garden street letter".split()
NOUNS = WORDS[8:]
SAYING = {"happy": ("joy",), "angry": ("anger",), "here": ("neutral",), "torn": ("joy", "anger")}
TEXTS = [
    "the dog is happy",
    "",
    "the cat is angry with the dog . " * 5,
    "here",
    "the dog is torn .",
]
QUERY = "encoder.layer.1.attention.self.query.weight"
NORM = "encoder.layer.0.output.LayerNorm.bias"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder of the structure of the true one, and random weights."""
    folder = tmp_path_factory.mktemp("base")
    vocabulary = {word: number for number, word in enumerate(MARKS + WORDS)}
    built = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    PreTrainedTokenizerFast(
        tokenizer_object=built, **dict(zip(names, MARKS, strict=True))
    ).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, initializer_range=0.5,
    )).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def learnt(base: Path) -> dict[str, torch.Tensor]:
    """Something of every kind that is learnt."""
    torch.manual_seed(1)
    return {
        f"{QUERY}/down": torch.randn(2, 16),
        f"{QUERY}/up": torch.randn(2, 16),
        f"{NORM}/change": torch.randn(16),
        "output.weight": torch.randn(3, 16),
        "output.bias": torch.randn(3),
    }


@pytest.fixture(scope="module")
def stored(base: Path, learnt: dict[str, torch.Tensor], tmp_path_factory) -> Path:
    """A folder with a judge."""
    folder = tmp_path_factory.mktemp("judge")
    digest = weights_digest([load_encoder(base)[0]])
    script.save(learnt, {"labels": LABELS, "temperature": 2.0, "base_digest": digest}, folder)
    return folder


@pytest.fixture(scope="module")
def judge(base: Path, stored: Path) -> GoEmotionsMiniLM:
    return load_judge(base, folder=stored, device="cpu")


def test_the_weights_are_those_of_the_base_and_what_was_learnt(
    judge: GoEmotionsMiniLM, base: Path, stored: Path
) -> None:
    added = unpacked(load_file(stored / "judge.safetensors"))
    expected = {name: value.clone() for name, value in load_encoder(base)[0].named_parameters()}
    expected[QUERY] = expected[QUERY] + added[f"{QUERY}/up"].T @ added[f"{QUERY}/down"]
    expected[NORM] = expected[NORM] + added[f"{NORM}/change"]
    for name, value in judge.model.encoder.named_parameters():
        assert torch.equal(value, expected[name]), name
    assert torch.equal(judge.model.output.weight, added["output.weight"])
    assert torch.equal(judge.model.output.bias, added["output.bias"])


def test_what_is_stored_is_close_to_what_was_learnt(
    learnt: dict[str, torch.Tensor], stored: Path
) -> None:
    read = unpacked(load_file(stored / "judge.safetensors"))
    assert read.keys() == learnt.keys()
    for name, value in learnt.items():
        assert (read[name] - value).abs().max() <= value.abs().max() / 250


def test_a_text_is_read_by_the_mean_of_its_tokens(judge: GoEmotionsMiniLM) -> None:
    model = judge.model
    for text, row in zip(TEXTS, judge.probabilities(TEXTS), strict=True):
        inputs = judge.tokenizer(text or ".", return_tensors="pt")
        with torch.no_grad():
            mean = model.encoder(**inputs).last_hidden_state[0].mean(0)
            expected = (model.output(mean) / 2.0).softmax(0)
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)


def test_the_batch_changes_nothing(judge: GoEmotionsMiniLM) -> None:
    # Sums run in another order in another batch; more than their last bits may not differ.
    alone = torch.cat([judge.probabilities([text]) for text in TEXTS])
    together = judge.probabilities(TEXTS)
    assert together.sub(alone).abs().max() < 2e-6
    assert together.sub(together[0]).abs().max() > 0.01
    assert torch.equal(judge.probabilities(TEXTS), together)
    torch.testing.assert_close(together.sum(1), torch.ones(len(TEXTS)))
    assert judge.probabilities([]).shape == (0, 3)


def test_another_base_is_refused(base: Path, stored: Path, tmp_path: Path) -> None:
    encoder, tokenizer = load_encoder(base)
    with torch.no_grad():
        encoder.get_parameter(NORM)[3] += 1e-3
    encoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(EmokernelError, match=r"does not hold the weights .*fetched again"):
        load_judge(tmp_path, folder=stored)


def test_a_missing_judge_is_told(base: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"embedded\.transformer_judge"):
        load_judge(base, folder=tmp_path)


def test_its_digest_is_of_all_it_is_made_from(
    judge: GoEmotionsMiniLM, base: Path, stored: Path, tmp_path: Path
) -> None:
    assert same_classifier(judge, load_judge(base, folder=stored, device="cpu"))
    shutil.copytree(stored, tmp_path / "warmer")
    settings = json.loads((stored / "judge.json").read_text("utf-8"))
    (tmp_path / "warmer" / "judge.json").write_text(json.dumps(settings | {"temperature": 1.0}))
    warmer = load_judge(base, folder=tmp_path / "warmer", device="cpu")
    assert warmer.digest() != judge.digest()
    warmer.name = "another"
    assert not same_classifier(judge, warmer)


def test_it_is_loaded_by_name(base: Path, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = types.ModuleType("emokernel.weights")
    weights.fetched = {"minilm": base}.__getitem__
    monkeypatch.setitem(sys.modules, "emokernel.weights", weights)
    monkeypatch.setattr(
        load_judge, "__kwdefaults__", load_judge.__kwdefaults__ | {"folder": stored}
    )
    judge = load_classifier(TRANSFORMER, device="cpu", progress=True)
    assert (judge.name, judge.labels, judge.multi_label) == (TRANSFORMER, LABELS, False)
    assert judge.progress
    assert judge.model.device.type == "cpu"
    check_inputs(load_vectors().select(["joy", "anger"]), judge, Judge.load(), {})
    with pytest.raises(EmokernelError, match="leave out revision"):
        load_classifier(TRANSFORMER, labels={"joy": "fun"})


def test_what_ships() -> None:
    settings = json.loads((GOEMOTIONS_MINILM_PATH / "judge.json").read_text("utf-8"))
    assert tuple(settings["labels"]) == Judge.load().labels
    assert sum(file.stat().st_size for file in GOEMOTIONS_MINILM_PATH.iterdir()) <= 2_000_000
    assert settings["training_halves"] == ["judge"]
    for part in ("dev", "test"):
        assert settings[part].keys() == settings["definitions"].keys()
        assert settings[part]["accuracy_any_label"] > 0.63
        assert settings[part]["macro_f1"] > 0.49
        assert settings[part]["calibration_error"] < 0.05
    counts = shipped(types.SimpleNamespace(name=TRANSFORMER, folder=GOEMOTIONS_MINILM_PATH))
    # The rows of GoEmotions test that have one label.
    assert sum(sum(tops.values()) for tops in counts.values()) == 4590
    right = sum(tops.get(label, 0) for label, tops in counts.items()) / 4590
    assert right == pytest.approx(settings["test"]["accuracy_single_label"], abs=1e-4)


def test_a_change_of_rank_two_is_trained_and_told(base: Path) -> None:
    encoder, tokenizer = load_encoder(base)
    model = SentenceClassifier(encoder, 3)
    inputs = tokenizer(TEXTS[:1], return_tensors="pt")
    inputs.pop("token_type_ids", None)
    trainee = Trainee(model, Settings(rank=2)).eval()
    assert trainee.logits(inputs).abs().max() == 0
    texts = [f"the {noun} is {word} ." for word in SAYING for noun in NOUNS]
    targets = distributions([SAYING[text.split()[3]] for text in texts], LABELS)
    before = weights_digest([encoder])
    settings = Settings(rank=2, epochs=2, batch=8, rates=(0.02, 0.02))
    first, last = train_changes(model, tokenizer, texts, targets, settings)
    assert weights_digest([encoder]) == before
    assert not torch.equal(first["output.bias"], last["output.bias"])
    changed = {name.rpartition("/")[0] for name in last if "/" in name}
    assert {QUERY, NORM, QUERY.replace("weight", "bias")} <= changed
    assert not any("embeddings" in name or "pooler" in name for name in changed)
    assert last[f"{QUERY}/down"].shape == last[f"{QUERY}/up"].shape == (2, 16)
    again = train_changes(model, tokenizer, texts, targets, settings)
    assert torch.equal(next(again)["output.bias"], first["output.bias"])


def test_what_was_learnt_gives_what_was_trained(base: Path) -> None:
    encoder, tokenizer = load_encoder(base)
    trainee = Trainee(SentenceClassifier(encoder, 3), Settings(rank=2)).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for value in trainee.trained().values():
            value.add_(0.3 * torch.randn_like(value))
    merged = SentenceClassifier(load_encoder(base)[0], 3)
    untouched = copy.deepcopy(merged)
    add_learnt(merged, trainee.learnt(trainee.trained()))
    add_learnt(
        untouched, {"output.weight": merged.output.weight, "output.bias": merged.output.bias}
    )
    inputs = tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        expected, without = (model(**inputs).logits for model in (merged, untouched))
        trained = trainee.logits(inputs)
    assert (trained - expected).norm() < 0.1 * (without - expected).norm()  # of bf16


def test_script_trains_on_the_judges_half(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "goemotions"
    folder.mkdir()
    (folder / "labels.txt").write_text("\n".join(LABELS))
    rows = [
        f"the {one} is {word} with the {other} .\t{','.join(str(LABELS.index(n)) for n in names)}\t"
        for word, names in SAYING.items()
        for one in NOUNS
        for other in NOUNS
    ]
    for part, chosen in (("train", rows), ("dev", rows[::7]), ("test", rows[::11])):
        lines = [f"{row}{part}{number}" for number, row in enumerate(chosen)]
        (folder / f"{part}.tsv").write_text("\n".join(lines))
    seen = []

    def recorded(model, tokenizer, texts, targets, settings, seed):
        seen.append(set(texts))
        quick = Settings(2, 3, 8, (0.02, 0.05), dropout=0.0, masked=0.0, decay=0.8)
        return train_changes(model, tokenizer, texts, targets, quick, seed)

    monkeypatch.setattr(script, "train_changes", recorded)
    command = ["x", "--data", str(tmp_path), "--base", str(base), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    script.main()
    comments = {example.text for example in training_half(tmp_path, "judge")}
    assert seen == [comments]
    assert comments
    assert comments.isdisjoint(example.text for example in training_half(tmp_path, "language"))
    settings = json.loads((tmp_path / "out" / "judge.json").read_text("utf-8"))
    assert settings["training_rows"] == len(comments)
    assert settings["test"]["accuracy_any_label"] > 0.9
    judge = load_judge(base, folder=tmp_path / "out", device="cpu")
    assert (
        judge.labels[int(judge.probabilities(["the house is happy with the dog ."])[0].argmax())]
        == "joy"
    )
    weights = (tmp_path / "out" / "judge.safetensors").read_bytes()
    monkeypatch.setattr(sys, "argv", [*command, "--figures-only"])
    script.main()
    assert len(seen) == 1
    assert (tmp_path / "out" / "judge.safetensors").read_bytes() == weights
    assert json.loads((tmp_path / "out" / "judge.json").read_text("utf-8")) == settings
