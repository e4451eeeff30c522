"""What is no causal language model is refused and says what to pass; parts and wrappers of one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor, nn

from emokernel import Request, patch
from emokernel.errors import ModelStructureError

TEXT = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "vocab_size": 96,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
ENCODER = {name: value for name, value in TEXT.items() if name != "num_key_value_heads"}
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
SEQ2SEQ = {
    "d_model": 64, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "vocab_size": 96,
}  # fmt: skip
T5 = {"d_model": 64, "d_ff": 128, "num_layers": 3, "num_heads": 4, "d_kv": 16, "vocab_size": 96}


def made(model: str, config: str, **entries: object) -> nn.Module:
    torch.manual_seed(0)
    return getattr(transformers, model)(getattr(transformers, config)(**entries)).eval()


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return made("LlamaForCausalLM", "LlamaConfig", **TEXT)


def with_wrapped_blocks() -> nn.Module:
    model = made("LlamaForCausalLM", "LlamaConfig", **TEXT)
    for index, block in enumerate(model.model.layers):
        model.model.layers[index] = torch.compile(block, backend="eager")
    return model


def with_a_compiled_forward() -> nn.Module:
    model = made("LlamaForCausalLM", "LlamaConfig", **TEXT)
    block = model.model.layers[1]
    block.forward = torch.compile(block.forward, backend="eager")
    return model


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "t5": (
        lambda: made("T5ForConditionalGeneration", "T5Config", **T5),
        "is an encoder-decoder; only causal language models",
    ),
    "bart": (
        lambda: made("BartForConditionalGeneration", "BartConfig", **SEQ2SEQ),
        "is an encoder-decoder; only causal language models",
    ),
    "t5 encoder": (lambda: made("T5EncoderModel", "T5Config", **T5), "pass the language model"),
    "masked": (
        lambda: made("BertForMaskedLM", "BertConfig", **ENCODER),
        r"BertForMaskedLM is not causal .*: pass a causal language model",
    ),
    "classifier": (
        lambda: made("BertForSequenceClassification", "BertConfig", **ENCODER),
        "BertForSequenceClassification is not causal",
    ),
    "vision": (
        lambda: made("ViTModel", "ViTConfig", **VISION | {"hidden_size": 64}),
        "ViTModel has no table of token embeddings: pass a causal language model",
    ),
    "module": (lambda: nn.Sequential(nn.Linear(2, 2)), "pass a Hugging Face causal language"),
    "name": (lambda: "gpt2", "str has no transformers config: pass a Hugging Face causal"),
    "data parallel": (
        lambda: nn.DataParallel(made("LlamaForCausalLM", "LlamaConfig", **TEXT)),
        "DataParallel only wraps the language model: patch what is inside",
    ),
    "meta": (on_meta, "the weights of LlamaForCausalLM are on the meta device: load them first"),
    "wrapped blocks": (with_wrapped_blocks, r"wrapped by torch\.compile: patch first and wrap"),
    "compiled forward": (
        with_a_compiled_forward, "something else replaced the forward of LlamaDecoderLayer: remove"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_what_to_do_and_left_alone(name, vectors):
    build, message = REFUSED[name]
    model = build()
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    before = [dict(vars(module)) for module in modules]
    with pytest.raises(ModelStructureError, match=message):
        patch(model, vectors())
    for module, own in zip(modules, before, strict=True):
        assert vars(module).keys() == own.keys()
        assert all(value is own[name] for name, value in vars(module).items())


def llava() -> nn.Module:
    return made(
        "LlavaForConditionalGeneration", "LlavaConfig", image_token_id=90,
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=transformers.LlamaConfig(**TEXT),
    )  # fmt: skip


def gemma3() -> nn.Module:
    return made(
        "Gemma3ForConditionalGeneration", "Gemma3Config", mm_tokens_per_image=4,
        vision_config=VISION, text_config=TEXT | {"head_dim": 16},
    )  # fmt: skip


def qwen2_vl() -> nn.Module:
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3]}
    return made(
        "Qwen2VLForConditionalGeneration", "Qwen2VLConfig",
        text_config=TEXT | {"rope_scaling": rope},
        vision_config={"depth": 3, "embed_dim": 32, "hidden_size": 64, "num_heads": 4},
    )  # fmt: skip


@pytest.mark.parametrize("build", [llava, gemma3, qwen2_vl])
def test_the_language_part_of_a_multimodal_model_is_patched(build, vectors, prompts):
    """With as many vision blocks as decoder blocks: numbers do not tell them apart."""
    whole, part = build(), build()
    before = logits(whole, prompts)
    steering = patch(whole, vectors(), law="add")
    blocks = whole.model.language_model.layers
    assert {layer.block for layer in steering.report().layers} == {type(blocks[0]).__name__}
    torch.testing.assert_close(logits(whole, prompts), before, rtol=1e-4, atol=1e-5)
    of_part = patch(part.model.language_model, vectors(), law="add")
    asked, mask = [Request("joy", 2.0)] * 4, torch.ones_like(prompts)
    with steering.requests(asked, attention_mask=mask):
        steered = logits(whole, prompts)
    with of_part.requests(asked, attention_mask=mask):
        assert torch.equal(logits(part, prompts), steered)
    assert not torch.allclose(steered, before, atol=1e-3)
    steering.unpatch()
    assert torch.equal(logits(whole, prompts), before)


@pytest.mark.parametrize("build", [llava, gemma3, qwen2_vl])
def test_a_multimodal_model_generates_by_request(build, vectors, prompts):
    """Each text is what it is if all ask for the same."""
    model = build()
    model.generation_config.eos_token_id = None
    steering = patch(model, vectors())
    made = {}
    for asked in (["joy"] * 4, [None] * 4, ["joy", None, "joy", None]):
        requests = [Request(e, 6.0, positions="generated") for e in asked]
        with steering.requests(requests):
            made[tuple(asked)] = model.generate(
                prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=5, do_sample=False,
                output_logits=True, return_dict_in_generate=True,
            ).logits  # fmt: skip
    joy, plain, mixed = (torch.stack(logits) for logits in made.values())
    torch.testing.assert_close(mixed[:, 0::2], joy[:, 0::2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed[:, 1::2], plain[:, 1::2], rtol=1e-4, atol=1e-5)
    assert torch.equal(joy[0], plain[0]), "the prompt was steered"
    assert not torch.allclose(joy[1:], plain[1:], atol=1e-3)


def test_a_model_that_hides_its_padding_asks_for_the_mask(vectors, prompts):
    """Gemma 3 with pictures makes a mask of its own before the decoder sees any."""
    model = gemma3()
    patch(model, vectors()).set("joy")
    with pytest.raises(ValueError, match="give attention_mask= to requests"):
        logits(model, prompts)


def test_an_image_among_the_tokens_is_steered_with_them(vectors):
    """The rows of the picture are rows of the prompt."""
    model = llava()
    ids = torch.tensor([[5, *[90] * 16, 7, 8]])
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    kept: list[Tensor] = []
    handle = model.model.language_model.layers[0].register_forward_hook(
        lambda _, __, output: kept.append(output.clone())
    )
    steering = patch(model, vectors("block"), layers=[0], law="add")
    kept.clear()
    with torch.no_grad():
        model(input_ids=ids, pixel_values=pixels)
        with steering.requests([Request("joy", 2.0, positions="prompt")]):
            model(input_ids=ids, pixel_values=pixels)
    handle.remove()
    wanted = kept[0] + 2.0 * vectors("block")["joy"][0]
    torch.testing.assert_close(kept[1], wanted, rtol=1e-5, atol=1e-5)


def test_two_decoders_in_one_model_ask_for_one_of_them(vectors):
    model = made("LlamaForCausalLM", "LlamaConfig", **TEXT)
    model.draft = made("LlamaModel", "LlamaConfig", **TEXT)
    model.get_decoder = lambda: model
    with pytest.raises(ModelStructureError, match=r"found 2 lists of 3 blocks .*; pass the lang"):
        patch(model, vectors())


def test_a_base_model_without_a_head_is_patched(tiny, vectors, prompts):
    whole, base = tiny(), tiny()
    patch(whole, vectors()).set("joy", 2.0)
    steering = patch(base.model, vectors())
    steering.set("joy", 2.0)
    assert torch.equal(logits(base, prompts), logits(whole, prompts))
    assert steering.report().model == "LlamaModel"


def test_a_classifier_on_a_causal_decoder_is_patched(vectors, prompts):
    model = made("LlamaForSequenceClassification", "LlamaConfig", **TEXT)
    before = logits(model, prompts)
    steering = patch(model, vectors())
    steering.set("joy", 2.0)
    assert not torch.allclose(logits(model, prompts), before, atol=1e-3)
    steering.unpatch()
    assert torch.equal(logits(model, prompts), before)


@pytest.mark.parametrize("first", ["patch", "compile"])
def test_blocks_compiled_in_place_are_steered(first, tiny, vectors, prompts):
    torch._dynamo.reset()
    model, alone = tiny(), tiny()
    patch(alone, vectors()).set("joy", 2.0)
    steering = patch(model, vectors()) if first == "patch" else None
    for block in model.model.layers:
        block.compile(backend="eager")
    if steering is None:
        before = logits(model, prompts)
        steering = patch(model, vectors())
        torch.testing.assert_close(logits(model, prompts), before, rtol=1e-4, atol=1e-5)
    steering.set("joy", 2.0)
    torch.testing.assert_close(logits(model, prompts), logits(alone, prompts), rtol=1e-4, atol=1e-5)
    steering.unpatch()
    unpatched = logits(model, prompts)
    torch.testing.assert_close(unpatched, logits(tiny(), prompts), rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


def test_patching_compiles_nothing(tiny, vectors):
    """The runs that read and prove the blocks go through them as they are written."""
    compiled: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable:
        compiled.append(graph)
        return graph.forward

    model = tiny()
    for block in model.model.layers:
        block.compile(backend=backend)
    patch(model, vectors())
    assert not compiled


def test_a_model_wrapped_by_compile_is_steered(tiny, vectors, prompts):
    torch._dynamo.reset()
    model, alone = tiny(), tiny()
    patch(alone, vectors()).set("joy", 2.0)
    wrapped = torch.compile(model, backend="eager")
    steering = patch(wrapped, vectors())
    assert "generate" in vars(model), "the model's own generate has to know where prompts end"
    steering.set("joy", 2.0)
    steered = logits(wrapped, prompts)
    torch.testing.assert_close(steered, logits(alone, prompts), rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


def test_a_handle_is_no_model(tiny, vectors):
    steering = patch(tiny(), vectors())
    with pytest.raises(ModelStructureError, match="pass a Hugging Face causal language model"):
        patch(steering, vectors())
