"""MODEL: what is no model is told with what to give instead, and what reads images is loaded."""

from __future__ import annotations

import argparse
import json

import pytest
import torch
import transformers
from patch.families import LAYERS, WIDTH
from small_gguf import write_gguf

from emokernel import EmotionVectors
from emokernel.cli import main
from emokernel.commands import models
from emokernel.demo.model import MODEL_PATH
from emokernel.demo.models import load
from emokernel.lab.extract.provenance import describe_model
from emokernel.lab.measure.fingerprint import fingerprint
from emokernel.model_class import model_class

TEXT = {
    "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 8, "projection_dim": 32,
}  # fmt: skip


def told(capsys, *arguments: str) -> str:
    assert main([*arguments]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def places(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF\3\0\0\0" + b"\0" * 64)
    (tmp_path / "renamed.bin").write_bytes(b"GGUF\3\0\0\0" + b"\0" * 64)
    (tmp_path / "text.gguf").write_text("a pointer to a large file")
    for folder in ("ggufs", "several", "pointers", "adapter", "nameless", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "ggufs" / "q4.gguf").write_bytes(b"GGUF")
    (tmp_path / "pointers" / "q4.gguf").write_text("a pointer to a large file")
    for name in ("q4", "q8"):
        (tmp_path / "several" / f"{name}.gguf").write_bytes(b"GGUF")
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "owner/base", "peft_type": "LORA"})
    )
    (tmp_path / "nameless" / "adapter_config.json").write_text("[]")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("text.gguf", "no GGUF file, or a damaged one; give the folder or the repository id"),
        ("missing.gguf", "there is no such folder or file"),
        ("several", "it holds several GGUF files: name one of q4.gguf, q8.gguf"),
        ("pointers", "q4.gguf is no GGUF file, or a damaged one"),
        ("adapter", "it holds an adapter of owner/base, no model: install peft"),
        ("nameless", "it holds an adapter of an unnamed model"),
        ("empty", "it has no config.json"),
    ],
)
def test_what_is_no_model_is_told_with_what_to_give(name, what, places, capsys, monkeypatch):
    monkeypatch.setattr("emokernel.demo.models.find_spec", lambda _: None)
    error = told(capsys, "extract", str(places / name), "-o", str(places / "v.npz"))
    assert f"cannot load the model {places / name}: {what}" in error
    assert not (places / "v.npz.partial").exists()


@pytest.mark.parametrize("name", ["model.gguf", "renamed.bin", "ggufs/q4.gguf", "ggufs"])
def test_a_damaged_gguf_file_is_told(name, places, capsys):
    pytest.importorskip("gguf")
    error = told(capsys, "extract", str(places / name), "-o", str(places / "v.npz"))
    assert ".gguf is a damaged GGUF file" in error or "renamed.bin is a damaged" in error


def test_a_gguf_file_is_a_model(tmp_path, capsys):
    pytest.importorskip("accelerate")
    path, output = write_gguf(tmp_path / "small.gguf"), tmp_path / "v.safetensors"
    arguments = [
        "extract", str(path), "-o", str(output), "--emotions", "joy", "--per-emotion", "2",
        "--max-new-tokens", "4",
    ]  # fmt: skip
    assert main(arguments) == 0
    vectors = EmotionVectors.load(output)
    assert vectors["joy"].any()
    # The folder that holds the file alone is the same model.
    (tmp_path / "folder").mkdir()
    alone = path.rename(tmp_path / "folder" / "small.gguf").parent
    model, tokenizer = load(str(alone), dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert fingerprint(model)["weights"] == vectors.provenance["fingerprint"]["weights"]
    assert tokenizer.padding_side == "left"
    error = told(capsys, "extract", str(alone), "--revision", "main", "-o", str(output))
    assert "folder holds a file: leave the revision main out" in error


def test_vectors_are_no_model(tmp_path, capsys):
    pytest.importorskip("gguf")
    joy = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    EmotionVectors.from_tensors({"joy": joy}, site="block").save(tmp_path / "joy.gguf")
    error = told(capsys, "extract", str(tmp_path / "joy.gguf"), "-o", str(tmp_path / "v.npz"))
    assert "is a GGUF file of vectors, not of a model: give it with --vectors" in error


@pytest.mark.parametrize("name", ["embedded", "smollm2"])
def test_a_named_model_has_no_revisions(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EMOKERNEL_CACHE", str(tmp_path / "cache"))
    error = told(capsys, "extract", name, "--revision", "v2", "-o", str(tmp_path / "v.npz"))
    assert f"{name} is of one version: leave the revision v2 out" in error
    assert not (tmp_path / "cache").exists()


def test_a_model_without_vectors_says_what_makes_them(capsys):
    for command in ("evaluate", "demo", "serve"):
        error = told(capsys, command, "some/model")
        assert "--vectors" in error
        assert "`emokernel extract some/model -o FILE.safetensors` makes them" in error
        assert "`emokernel calibrate some/model --vectors FILE.safetensors`" in error


def test_the_embedded_model_is_loaded_by_its_name():
    model, tokenizer = load("embedded")
    assert model.dtype == torch.float32
    assert not model.training
    assert tokenizer.padding_side == "left"


def test_what_is_loaded_to_measure_is_not_moved_unless_it_writes_elsewhere(monkeypatch):
    """Quantised models refuse `to`, wherever they are."""
    fixed = object()
    monkeypatch.setattr(models, "load_weights", lambda *_: fixed)
    chosen = argparse.Namespace(
        model=str(MODEL_PATH), revision=None, dtype="auto", device_map="cpu"
    )
    assert models.load_to_measure(chosen)[0] is fixed


def test_a_known_folder_is_the_known_model(monkeypatch, tmp_path):
    """What files call a model does not depend on where it lies."""
    monkeypatch.setenv("EMOKERNEL_CACHE", str(tmp_path))
    model, _ = load("embedded")
    model.config._name_or_path = str(tmp_path / "smollm2-0.1.2-1")
    of_folder = describe_model(model, None, None)
    assert of_folder == describe_model(model, "smollm2", None)
    assert of_folder["model"] == "HuggingFaceTB/SmolLM2-135M-Instruct (Q4_1)"


def test_a_misspelt_repository_is_told_how(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = told(capsys, "extract", "gpt-2-misspelt", "-o", str(tmp_path / "v.npz"))
    assert "cannot load the model gpt-2-misspelt" in error
    assert "nor is there a folder of that name here: check how it is spelt" in error
    error = told(capsys, "extract", "owner/model-GGUF", "-o", str(tmp_path / "v.npz"))
    assert "of GGUF files fetch one and name it, or give the folder" in error


def test_a_model_without_a_decoder_is_told(tmp_path, capsys):
    transformers.BertConfig(hidden_size=8, num_attention_heads=2).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text().replace('"bert"', '"vit"')
    )
    error = told(capsys, "extract", str(tmp_path), "-o", str(tmp_path / "v.npz"))
    assert "a model of the type 'vit' does not generate text from a decoder" in error


def llava() -> transformers.PreTrainedModel:
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=transformers.LlamaConfig(**TEXT, vocab_size=vocabulary()),
        image_token_id=5,
    )  # fmt: skip
    return transformers.LlavaForConditionalGeneration(config)


def qwen2_vl() -> transformers.PreTrainedModel:
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3]}
    config = transformers.Qwen2VLConfig(
        text_config=TEXT | {"rope_scaling": rope, "vocab_size": vocabulary()},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": WIDTH, "num_heads": 4},
    )  # fmt: skip
    return transformers.Qwen2VLForConditionalGeneration(config)


def gemma3() -> transformers.PreTrainedModel:
    config = transformers.Gemma3Config(
        mm_tokens_per_image=4, vision_config=VISION,
        text_config=TEXT | {"head_dim": 16, "vocab_size": vocabulary()},
    )  # fmt: skip
    return transformers.Gemma3ForConditionalGeneration(config)


def vocabulary() -> int:
    return json.loads((MODEL_PATH / "config.json").read_text())["vocab_size"]


@pytest.mark.parametrize("build", [llava, qwen2_vl, gemma3])
def test_a_folder_of_a_model_that_reads_images_is_loaded(build, tmp_path, capsys):
    torch.manual_seed(0)
    whole, folder = build(), str(tmp_path / "model")
    whole.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL_PATH)
    tokenizer.chat_template = (
        "{% for m in messages %}{% for part in m.content %}{{ part.text }} {% endfor %}{% endfor %}"
    )
    tokenizer.save_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = model_class(config)
    assert type(kind.from_pretrained(folder)) is type(whole)
    output = tmp_path / "new" / "v.safetensors"
    arguments = [
        "extract", folder, "-o", str(output), "--emotions", "joy", "--per-emotion", "2",
        "--max-new-tokens", "3", "--heldout", "0", "--dtype", "float32",
    ]  # fmt: skip
    assert main(arguments) == 0
    vectors = EmotionVectors.load(output)
    assert vectors.tensor.shape == (LAYERS, 1, WIDTH)
    assert vectors["joy"].any()


def test_a_language_model_is_loaded_as_one():
    config = transformers.AutoConfig.from_pretrained(MODEL_PATH)
    assert model_class(config) is transformers.AutoModelForCausalLM


def test_an_adapter_of_the_hub_has_the_config_of_its_base(tmp_path, monkeypatch):
    pytest.importorskip("peft")
    adapter = tmp_path / "adapter_config.json"
    adapter.write_text(json.dumps({"base_model_name_or_path": str(MODEL_PATH)}))
    own = transformers.AutoConfig.from_pretrained

    def from_pretrained(name, **options):
        if name == "me/adapter":
            raise OSError("me/adapter has no config.json")
        return own(name, **options)

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", from_pretrained)
    monkeypatch.setattr(
        transformers.utils, "find_adapter_config_file", lambda name, **_: str(adapter)
    )
    chosen = argparse.Namespace(model="me/adapter", revision=None)
    assert models.load_config(chosen).num_hidden_layers == own(MODEL_PATH).num_hidden_layers


def test_info_tells_which_weights_are_kept_and_where(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EMOKERNEL_CACHE", str(tmp_path))
    kept = tmp_path / "minilm-0.1.0-1"
    kept.mkdir()
    (kept / "emokernel-weights.json").write_text('{"files": {}}')
    assert main(["info"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["weights", "in", f"{tmp_path}:"] in lines
    assert ["minilm", "minilm-0.1.0-1"] in lines
    assert ["smollm2", *"not there: fetched when it is needed".split()] in lines
