"""Classifiers by name: the embedded judges, and a tiny model of transformers made here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

from emokernel.errors import EmokernelError
from emokernel.lab.judges import EMBEDDED, load_classifier
from emokernel.lab.measure.classifiers import (
    TextClassifier,
    columns_of,
    emotion_probabilities,
    same_classifier,
)

TEXTS = ["good", "bad bad bad day", "a good day", "", "bad " * 40, "day good bad"]
LABELS = {0: "Joy", 1: "Sadness", 2: "neutral"}


def tokenizer(pad: bool = True) -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "a", "day", "."]
    built = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    if not pad:
        return PreTrainedTokenizerFast(tokenizer_object=built, unk_token="[UNK]")
    built.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=built, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip


def saved(folder: Path, labels: dict[int, str] = LABELS, seed: int = 0, **more) -> str:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=24, id2label=labels,
        label2id={label: number for number, label in labels.items()}, initializer_range=0.5, **more,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> TextClassifier:
    return load_classifier(saved(tmp_path_factory.mktemp("single")), device="cpu")


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> TextClassifier:
    folder = tmp_path_factory.mktemp("multi")
    return load_classifier(
        saved(folder, seed=1, problem_type="multi_label_classification"), device="cpu"
    )


def logits(classifier: TextClassifier, text: str) -> Tensor:
    """What the model itself says of one text, [labels]."""
    model, words = classifier.model, classifier.tokenizer
    inputs = words(text or ".", truncation=True, max_length=22, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits[0]


def test_softmax_of_every_text_in_its_place(single: TextClassifier) -> None:
    assert single.labels == ("joy", "sadness", "neutral")
    assert not single.multi_label
    single.batch = 2
    expected = torch.stack([logits(single, text).softmax(-1) for text in TEXTS])
    assert expected[0].sub(expected[1]).abs().max() > 0.01
    torch.testing.assert_close(single.probabilities(TEXTS), expected, atol=1e-5, rtol=0)
    assert single.probabilities([]).shape == (0, 3)


def test_sigmoid_where_the_labels_are_independent(multi: TextClassifier) -> None:
    assert multi.multi_label
    expected = torch.stack([logits(multi, text).sigmoid() for text in TEXTS])
    torch.testing.assert_close(multi.probabilities(TEXTS), expected, atol=1e-5, rtol=0)


def test_multi_label_can_be_told(tmp_path: Path) -> None:
    classifier = load_classifier(saved(tmp_path), device="cpu", multi_label=True)
    expected = logits(classifier, "good").sigmoid()[None]
    torch.testing.assert_close(classifier.probabilities(["good"]), expected, atol=1e-5, rtol=0)


def test_a_model_without_padding_takes_texts_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=9, n_positions=48, n_embd=16, n_layer=1, n_head=2, id2label=LABELS,
        pad_token_id=None, bos_token_id=None, eos_token_id=None, initializer_range=0.5,
    )  # fmt: skip
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer(pad=False).save_pretrained(tmp_path)
    classifier = load_classifier(str(tmp_path), device="cpu")
    texts = ["good", "bad bad day", "", "day a"]
    expected = torch.stack([logits(classifier, text).softmax(-1) for text in texts])
    torch.testing.assert_close(classifier.probabilities(texts), expected, atol=1e-5, rtol=0)


def test_one_text_is_refused(single: TextClassifier) -> None:
    with pytest.raises(EmokernelError, match="pass a list of texts"):
        single.probabilities("good")


def test_nameless_labels_need_names(tmp_path: Path) -> None:
    name = saved(tmp_path, {0: "LABEL_0", 1: "LABEL_1", 2: "Anger"})
    with pytest.raises(EmokernelError, match=r"\(label_0, label_1\).*pass labels="):
        load_classifier(name)
    with pytest.raises(EmokernelError, match=r"\(label_1\)"):
        load_classifier(name, labels={"LABEL_0": "joy"})
    given = load_classifier(name, labels={"LABEL_0": "Joy", "LABEL_1": "fear"}, device="cpu")
    assert given.labels == ("joy", "fear", "anger")


def test_wrong_label_names_are_refused(tmp_path: Path) -> None:
    name = saved(tmp_path)
    with pytest.raises(EmokernelError, match=r"'joi'. Did you mean 'joy'"):
        load_classifier(name, labels={"joi": "joy"})
    with pytest.raises(EmokernelError, match=r"two labels .* have the same name"):
        load_classifier(name, labels={"Sadness": "joy"})


def test_a_model_that_classifies_nothing_is_refused(tmp_path: Path) -> None:
    BertModel(BertConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
    )).save_pretrained(tmp_path)  # fmt: skip
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(EmokernelError, match=r"no text classifier: its weights lack classifier\."):
        load_classifier(str(tmp_path))


def test_a_regression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmokernelError, match="gives a score"):
        load_classifier(saved(tmp_path, problem_type="regression"))


def test_embedded_names() -> None:
    evaluation, calibration = (load_classifier(name) for name in EMBEDDED)
    assert (evaluation.name, calibration.name) == EMBEDDED
    assert evaluation.labels == calibration.labels
    assert not evaluation.multi_label
    assert not same_classifier(evaluation, calibration)
    assert same_classifier(evaluation, load_classifier("embedded-evaluation"))
    with pytest.raises(EmokernelError, match="the embedded ones are embedded-evaluation"):
        load_classifier("embedded")
    with pytest.raises(EmokernelError, match="leave out revision"):
        load_classifier("embedded-evaluation", labels={"joy": "fun"})


def test_columns_of_an_emotion(single: TextClassifier) -> None:
    assert columns_of(single, "sadness") == (1,)
    assert columns_of(single, "grief", {"grief": "Sadness"}) == (1,)
    assert columns_of(single, "calm", {"calm": ["neutral", "joy"]}) == (2, 0)
    with pytest.raises(EmokernelError, match=r"'sadnes'. Did you mean 'sadness'.*say which of"):
        columns_of(single, "sadnes")
    with pytest.raises(EmokernelError, match="unknown emotion 'calmness'"):
        columns_of(single, "calm", {"calm": "calmness"})
    with pytest.raises(EmokernelError, match="one or more distinct labels"):
        columns_of(single, "calm", {"calm": ["joy", "joy"]})
    with pytest.raises(EmokernelError, match="one or more distinct labels"):
        columns_of(single, "calm", {"calm": []})


def test_probability_that_one_of_several_labels_holds(
    single: TextClassifier, multi: TextClassifier
) -> None:
    probabilities = torch.tensor([[0.5, 0.2, 0.3]])
    both = {"feeling": ["joy", "sadness"]}
    one = emotion_probabilities(single, probabilities, "feeling", both)
    torch.testing.assert_close(one, torch.tensor([0.7]))
    independent = emotion_probabilities(multi, probabilities, "feeling", both)
    torch.testing.assert_close(independent, torch.tensor([1 - 0.5 * 0.8]))
    alone = emotion_probabilities(multi, probabilities, "sadness")
    torch.testing.assert_close(alone, torch.tensor([0.2]))


def test_a_copy_under_another_name_is_the_same_classifier(
    single: TextClassifier, tmp_path: Path
) -> None:
    copy = load_classifier(saved(tmp_path / "copy"), device="cpu")
    assert copy.name != single.name
    assert same_classifier(single, copy)
    other = load_classifier(saved(tmp_path / "other", seed=2), device="cpu")
    assert not same_classifier(single, other)
    # Another revision of one repository is not independent either.
    other.name = single.name
    assert same_classifier(single, other)
