"""A Llama of Hugging Face as a GGUF file in fp32, so that llama.cpp runs the very same numbers.

`python gguf_models.py FOLDER FILE`. What llama.cpp's own converter does besides, such as the
vocabulary, is left out: who uses the file gives and takes token ids.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors import safe_open

# {ours: (theirs, rotated)}; rotary positions pair numbers next to each other there, and numbers
# half a head apart here.
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_f32(folder: Path, path: Path) -> Path:
    """Write the Llama of ``folder``, one safetensors file, to ``path``.

    Raises ValueError for another architecture and for positions that are scaled.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    rope = config["rope_parameters"]
    if config["model_type"] != "llama" or rope["rope_type"] != "default":
        raise ValueError(f"{folder} is no Llama with plain rotary positions: give one")
    heads, keys = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(keys)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    with safe_open(folder / "model.safetensors", "pt") as weights:

        def add(name: str, source: str, rotated: int = 0) -> None:
            array = weights.get_tensor(f"{source}.weight").float().numpy()
            if rotated:
                halves = array.reshape(rotated, 2, -1, array.shape[-1])
                array = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))
            writer.add_tensor(f"{name}.weight", array)

        add("token_embd", "model.embed_tokens")
        for layer in range(config["num_hidden_layers"]):
            for name, source in _BLOCK.items():
                rotated = {"attn_q": heads, "attn_k": keys}.get(name, 0)
                add(f"blk.{layer}.{name}", f"model.layers.{layer}.{source}", rotated)
        add("output_norm", "model.norm")
        if not config["tie_word_embeddings"]:
            add("output", "lm_head")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    writer.close()
    return path


if __name__ == "__main__":
    print(write_f32(Path(sys.argv[1]), Path(sys.argv[2])))
