"""GGUF files become models like any other: what the file stands for, saved, patched, trained."""

from __future__ import annotations

import warnings

import pytest
import torch
import transformers
from small_gguf import CONTEXT, LAYERS, TEMPLATE, WIDTH, write_gguf

import emokernel
from emokernel.errors import EmokernelError
from emokernel.weights import gguf


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf")


@pytest.fixture(scope="module")
def model(path):
    return gguf.load_weights(path, gguf.load_config(path))


def test_the_weights_are_those_of_the_blocks(path, model):
    import gguf as reference

    tensors = {each.name: each for each in reference.GGUFReader(path).tensors}

    def values(name):
        tensor = tensors[name]
        return torch.tensor(reference.dequantize(tensor.data, tensor.tensor_type))

    block = model.model.layers[1]
    assert torch.equal(model.model.embed_tokens.weight, values("token_embd.weight"))
    assert torch.equal(block.mlp.down_proj.weight, values("blk.1.ffn_down.weight"))
    assert torch.equal(block.self_attn.v_proj.weight, values("blk.1.attn_v.weight"))
    assert torch.equal(model.model.norm.weight, values("output_norm.weight"))


def test_it_is_saved_loaded_and_trained_as_any_model(path, model, tmp_path):
    gguf.save(path, tmp_path, progress=False)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[5, 9, 40, 41]])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)
    saved = (tmp_path / "config.json").read_text()
    assert "quantization" not in saved
    assert "name_or_path" not in saved
    assert "_from_model_config" not in (tmp_path / "generation_config.json").read_text()
    for each in (again, model):
        assert getattr(each, "hf_quantizer", None) is None
        assert not getattr(each, "is_quantized", False)
        assert each.dtype == torch.float32
        assert (each.generation_config.eos_token_id, each.generation_config.pad_token_id) == (2, 2)
    again.train()(ids, labels=ids).loss.backward()
    assert again.model.layers[0].mlp.up_proj.weight.grad.any()


def test_it_is_patched_and_steered(model, path):
    model = gguf.load_weights(path, gguf.load_config(path), torch.bfloat16)
    assert model.dtype == torch.bfloat16
    vectors = emokernel.EmotionVectors.from_tensors({"joy": torch.ones(LAYERS, WIDTH)})
    ids = torch.tensor([[5, 9, 40, 41]])
    with torch.no_grad():
        plain = model(ids).logits
        steering = emokernel.patch(model, vectors, fuse_norm=False)
        assert torch.equal(model(ids).logits, plain)
        steering.set("joy")
        assert not torch.equal(model(ids).logits, plain)
    steering.unpatch()


def test_its_tokenizer_is_that_of_llama_cpp(path, tmp_path):
    own = gguf.load_tokenizer(path)
    own.save_pretrained(tmp_path)
    for tokenizer in (own, transformers.AutoTokenizer.from_pretrained(tmp_path)):
        # Every digit by itself, before spaces and newlines are taken together.
        assert tokenizer.tokenize("  12\n\n1 the") == ["ĠĠ", "1", "2", "ĊĊ", "1", "Ġthe"]
        for text in ("tab\tand  two\r\n", "😀 é 中", "½ ٣ 3.14", " <|im_end|>\n"):
            assert tokenizer.decode(tokenizer(text).input_ids) == text
        assert tokenizer("<|im_start|>a").input_ids[0] == 1
        assert tokenizer.model_max_length == CONTEXT
        assert tokenizer.padding_side == "left"
        assert tokenizer.chat_template == TEMPLATE
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


@pytest.mark.parametrize("scaling", ["tensor", "linear", "none"])
def test_positions_that_are_not_read_as_the_file_says_are_told(scaling, tmp_path):
    pytest.importorskip("gguf")
    path = write_gguf(tmp_path / "scaled.gguf", scaling=scaling)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        gguf.load_config(path)
    assert any("scales positions (RoPE)" in str(each.message) for each in told) == (
        scaling != "none"
    )


def test_what_cannot_be_read_is_told(path, tmp_path, vectors):
    import gguf as writing

    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(path.read_bytes()[:600])
    with pytest.raises(EmokernelError, match="damaged GGUF file: copy or fetch it again"):
        gguf.load_config(damaged)
    other = tmp_path / "other.gguf"
    writer = writing.GGUFWriter(other, "rwkv6")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(EmokernelError, match="no GGUF file of the architecture 'rwkv6': give the"):
        gguf.load_config(other)
    vectors("block").select(["joy"]).at_layers([1]).save(tmp_path / "joy.gguf")
    with pytest.raises(EmokernelError, match="of vectors, not of a model: give it with --vectors"):
        gguf.load_config(tmp_path / "joy.gguf")
    part = write_gguf(tmp_path / "part.gguf", written=LAYERS - 1)
    with pytest.raises(EmokernelError, match=r"lacks 9 of the weights .*model\.layers\.1\."):
        gguf.load_weights(part, gguf.load_config(part))
