"""A small random llama as a GGUF file, its tokenizer that of bytes and a few merges."""

from __future__ import annotations

from pathlib import Path

import numpy as np

LAYERS, WIDTH, INNER, HEADS, KEY_HEADS, CONTEXT = 2, 32, 64, 4, 2, 96
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_gguf(
    path: Path,
    architecture: str = "llama",
    template: str | None = TEMPLATE,
    written: int = LAYERS,
    scaling: str | None = None,
) -> Path:
    """Write it, its matrices in blocks of Q8_0.

    ``written``: layers that it has the weights of. ``scaling`` of positions: "tensor", or a type.
    """
    import gguf
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    merges = ["Ġ t", "h e", "Ġt he", "Ġ Ġ", "Ċ Ċ", "1 2"]
    tokens = [*SPECIAL, *bytes_to_unicode().values(), *(each.replace(" ", "") for each in merges)]
    tokens += [f"unused{number}" for number in range(-len(tokens) % 32)]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)
    random = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        values = random.normal(0.0, 0.1, shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values + 1.0)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    keys = WIDTH // HEADS * KEY_HEADS
    add("token_embd.weight", len(tokens), WIDTH)
    for layer in range(written):
        block = f"blk.{layer}."
        add(block + "attn_norm.weight", WIDTH)
        add(block + "attn_q.weight", WIDTH, WIDTH)
        add(block + "attn_k.weight", keys, WIDTH)
        add(block + "attn_v.weight", keys, WIDTH)
        add(block + "attn_output.weight", WIDTH, WIDTH)
        add(block + "ffn_norm.weight", WIDTH)
        add(block + "ffn_gate.weight", INNER, WIDTH)
        add(block + "ffn_up.weight", INNER, WIDTH)
        add(block + "ffn_down.weight", WIDTH, INNER)
    add("output_norm.weight", WIDTH)
    if scaling == "tensor":
        add("rope_freqs.weight", WIDTH // HEADS // 2)
    elif scaling is not None:
        writer.add_string(f"{architecture}.rope.scaling.type", scaling)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
