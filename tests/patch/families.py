"""Small random causal LMs of every decoder family that transformers can build from a config.

A family is data: the config entries that make it small (beyond `SIZES`, which all share), and what
a test has to know about its blocks. Nothing here reads emokernel.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)

LAYERS, WIDTH, VOCABULARY = 3, 64, 96

# What a config has no entry for is left out.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "lru_width"), WIDTH),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"), 2 * WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("attention_heads",), 4),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 128),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim"), 2 * WIDTH),
    **dict.fromkeys(("decoder_layers", "encoder_layers"), LAYERS),
    "max_target_positions": 128,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "attention_head_dim": 16,
    "rotary_dim": 8,
    "hidden_size_per_layer_input": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # experts
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 4),
    "moe_num_experts": 4,
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token"), 2),
    **dict.fromkeys(("moe_top_k", "moe_k", "moe_topk"), 2),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("shared_expert_intermediate_size", "shared_intermediate_size"), 32),
    **dict.fromkeys(("n_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace"), 1),
    # low-rank attention
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "v_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), 8),
    # state-space and linear-attention layers
    **dict.fromkeys(("state_size", "ssm_state_size", "mamba_d_state"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 8),
    "mamba_d_ssm": 128,
    "mamba_n_groups": 1,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 16),
}

BOTH, BLOCK = ("block", "attention"), ("block",)


@dataclass(frozen=True)
class Family:
    """One structure, as a small config and the facts that tests need.

    ``sites`` lacks "attention" where a block adds to the residual once (parallel branches, blocks
    without a second branch), where the row after the first branch is normed or scaled before it
    becomes the residual of the second, and where the stream is not one row per token.
    ``attention_output``: the child of a block whose output is multiplied by ``scale`` and added to
    the residual as the first branch (the first name that a block has; blocks may differ).
    ``second_output``: children whose zeroed output leaves the row after the first branch as it is.
    ``streams``: how many rows a token has between blocks.
    ``attention_free``: the blocks whose first branch is a convolution or a recurrence.
    ``blocks``: the name of the block list, where its length does not tell.
    """

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict, hash=False)
    model_type: str = ""
    drop: tuple[str, ...] = ()
    sites: tuple[str, ...] = BOTH
    attention_output: tuple[str, ...] = ("self_attn",)
    scale: float = 1.0
    second_output: tuple[str, ...] = ("mlp",)
    streams: int = 1
    attention_free: tuple[int, ...] = ()
    blocks: str | None = None
    note: str = ""

    @property
    def available(self) -> bool:
        """Whether the installed transformers has it."""
        return (self.model_type or self.name) in CONFIG_MAPPING


_MLA = {"head_dim": 8, "num_key_value_heads": 4}
_INDEXER = {**_MLA, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 4}
_GATED_DELTA = {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}
_CONV = {"layer_types": ["conv", "full_attention", "conv"]}
_HYBRID_MAMBA = ["linear_attention", "hybrid", "hybrid"]
_INKLING = {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16}
_MULTIPLIER = {"residual_multiplier": 0.7}

_PARALLEL: dict[str, Any] = {"sites": BLOCK, "note": "parallel branches, one residual add"}
_DECODER = {"is_decoder": True, "is_encoder_decoder": False}
_ONE_BRANCH: dict[str, Any] = {"sites": BLOCK, "note": "one branch in a block"}
_HYPER: dict[str, Any] = {"sites": BLOCK, "note": "the stream has several rows per token"}
_RENORMED: dict[str, Any] = {"sites": BLOCK, "note": "the residual is what a norm gave"}
_POST_ATTENTION: dict[str, Any] = {"attention_output": ("post_attention_layernorm",)}
_FC2: dict[str, Any] = {"second_output": ("fc2",)}
_ATTN: dict[str, Any] = {"attention_output": ("attn",)}
_MOE_AND_SHARED: dict[str, Any] = {
    "scale": 0.7,
    "second_output": ("block_sparse_moe", "shared_mlp"),
}
_MIXED: dict[str, Any] = {"attention_output": ("self_attn", "linear_attn")}

# Two norms, each before its branch, and two residual adds: (names, what they share)
_PLAIN = (
    "apertus arcee aria_text bitnet cwm diffllama dots1 ernie4_5 ernie4_5_moe "
    "exaone_moe flint gemma glm glm4_moe gpt_oss helium hunyuan_v1_dense hunyuan_v1_moe hy_v3 "
    "internlm3 iquestcoder laguna llama mellum mimo_v2_flash minimax_m2 minimax_m3_vl_text "
    "ministral ministral3 mistral mixtral moshi nanochat olmoe phi3 qwen2 qwen2_moe qwen3 "
    "qwen3_moe seed_oss smollm3 solar_open vaultgemma "
    # LayerNorm and its variants
    "jais2 nemotron olmo persimmon phimoe starcoder2 stablelm"
).split()

_ALL = (
    *(Family(name) for name in _PLAIN),
    *(
        Family(name, _MLA)
        for name in ("axk1", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu")
    ),
    *(Family(name, _INDEXER) for name in ("axk2", "deepseek_v32", "glm_moe_dsa")),
    *(Family(name, **_FC2) for name in ("biogpt", "opt", "xglm")),
    *(Family(name, **_ATTN) for name in ("gpt2", "gpt_bigcode", "modernbert-decoder")),
    # The decoders of encoder-decoder models, without their cross attention; BERT and its kin
    *(
        Family(name, _DECODER, **_FC2)
        for name in ("bigbird_pegasus", "blenderbot", "mbart", "pegasus", "whisper")
    ),
    *(
        Family(name, _DECODER, attention_output=("attention",), second_output=("output.dense",))
        for name in ("megatron-bert", "roberta-prelayernorm", "xlm-roberta-xl")
    ),
    Family("jetmoe", attention_output=("self_attention",)),
    Family("llama4_text", second_output=("feed_forward",)),
    Family("doge", note="the residual is multiplied by a row"),
    Family("mpt", **_ATTN | {"second_output": ("ffn.down_proj",)}),
    Family(
        "bloom",
        attention_output=("self_attention",),
        second_output=("mlp.dense_4h_to_h",),
        note="both branches add the residual themselves",
    ),
    Family(
        "cpmant",
        {"dim_ff": 128, "dim_head": 16, "prompt_length": 0},
        attention_output=("self_att",),
        second_output=("ffn.ffn",),
        note="both branches add the residual themselves",
    ),
    Family(
        "ctrl", {"dff": 128}, attention_output=("multi_head_attention",), second_output=("ffn",)
    ),
    Family("gpt_neo", {"attention_types": [[["global", "local"], 1], [["global"], 1]]}, **_ATTN),
    Family(
        "dbrx",
        {
            "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8},
            "ffn_config": {
                "hidden_size": WIDTH,
                "ffn_hidden_size": 32,
                "moe_num_experts": 4,
                "moe_top_k": 2,
            },
        },
        attention_output=("norm_attn_norm.attn",),
        second_output=("ffn",),
        note="both norms and the first residual add sit in a child",
    ),
    Family("gpt_neox_japanese", attention_output=("attention",)),
    Family(
        "gpt_neox_sequential",
        {"use_parallel_residual": False},
        "gpt_neox",
        attention_output=("attention",),
    ),
    Family(
        "falcon_sequential",
        {"parallel_attn": False, "new_decoder_architecture": False, "bias": True},
        "falcon",
        ("head_dim",),
        attention_output=("self_attention",),
    ),
    # The branches are multiplied before they are added
    Family("granite", _MULTIPLIER, scale=0.7),
    Family("granite_swa", _MULTIPLIER, scale=0.7),
    Family("granitemoe", _MULTIPLIER, scale=0.7, second_output=("block_sparse_moe",)),
    Family("granitemoe_swa", _MULTIPLIER, **_MOE_AND_SHARED),
    Family("granitemoeshared", _MULTIPLIER, **_MOE_AND_SHARED),
    Family(
        "granitemoehybrid",
        {"layer_types": ["mamba", "attention", "mamba"], **_MULTIPLIER},
        attention_free=(0, 2),
        attention_output=("self_attn", "mamba"),
        **_MOE_AND_SHARED,
    ),
    Family("minicpm3", {**_MLA, "scale_depth": 0.7 * LAYERS**0.5}, scale=0.7),
    Family(
        "hyperclovax",
        {**_MULTIPLIER, "use_post_norm": True},
        attention_output=("post_norm1",),
        scale=0.7,
    ),
    Family(
        "falcon_h1",
        {"attention_out_multiplier": 0.8, "ssm_out_multiplier": 1.2},
        scale=0.8,
        second_output=("feed_forward",),
        note="attention and mamba in one residual add, then the second branch",
    ),
    # A norm between the branch and its residual add
    *(
        Family(name, **_POST_ATTENTION)
        for name in ("afmoe", "exaone4", "flex_olmo", "gemma2", "gemma3_text", "olmo2", "olmo3")
    ),
    *(
        Family(name, attention_output=("post_self_attn_layernorm",))
        for name in ("glm4", "kolibri1")
    ),
    Family(
        "gemma4_text",
        {"global_head_dim": 16, "num_kv_shared_layers": 0},
        "",
        ("head_dim",),
        second_output=("mlp", "per_layer_projection"),
        note="a third branch, and the block's output is multiplied by a number",
        **_POST_ATTENTION,
    ),
    Family(
        "gemma4_unified_text",
        {"global_head_dim": 16, "num_kv_shared_layers": 0},
        "",
        ("head_dim",),
        note="the block's output is multiplied by a number",
        **_POST_ATTENTION,
    ),
    # Blocks that differ: some without attention
    *(
        Family(name, _GATED_DELTA, **_MIXED)
        for name in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")
    ),
    Family("bailing_hybrid", {**_GATED_DELTA, **_MLA}),
    Family(
        "kimi_linear",
        {**_GATED_DELTA, **_MLA, "linear_head_dim": 16, "linear_num_heads": 4},
    ),
    Family(
        "olmo_hybrid",
        _GATED_DELTA,
        attention_output=("linear_attn", "post_attention_layernorm"),
        note="blocks with linear attention have their norms before the branches, others after",
    ),
    Family(
        "lfm2",
        _CONV,
        attention_free=(0, 2),
        attention_output=("self_attn", "conv"),
        second_output=("feed_forward",),
    ),
    Family(
        "lfm2_moe",
        _CONV,
        attention_free=(0, 2),
        attention_output=("self_attn", "conv"),
        second_output=("feed_forward",),
    ),
    Family(
        "lfm3",
        attention_free=(0, 1),
        attention_output=("post_operator_norm",),
        second_output=("feed_forward",),
    ),
    Family(
        "bamba",
        {"attn_layer_indices": [1]},
        attention_free=(0, 2),
        attention_output=("self_attn", "mamba"),
        second_output=("feed_forward",),
    ),
    Family(
        "jamba",
        {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4},
        attention_free=(0, 2),
        attention_output=("self_attn", "mamba"),
        second_output=("feed_forward",),
    ),
    Family(
        "recurrent_gemma",
        attention_free=(0, 1),
        attention_output=("temporal_block",),
        second_output=("mlp_block",),
    ),
    Family(
        "rwkv",
        attention_free=(0, 1, 2),
        attention_output=("attention",),
        second_output=("feed_forward",),
    ),
    Family(
        "xlstm",
        {"num_blocks": LAYERS, "embedding_dim": WIDTH, "qk_dim_factor": 1.0},
        drop=("v_head_dim",),
        attention_free=(0, 1, 2),
        attention_output=("mlstm_layer",),
        second_output=("ffn",),
    ),
    Family(
        "inkling_text",
        {**_INKLING, "d_rel": 8},
        attention_output=("attn_sconv",),
        second_output=("mlp_sconv",),
        note="a convolution after each branch",
    ),
    Family(
        "dots3_note_text",
        {
            **_INDEXER,
            **{f"swa_{k}": v for k, v in {**_MLA, "num_attention_heads": 4}.items()},
            **{f"swa_{k}": 16 for k in ("q_lora_rank", "kv_lora_rank", "v_head_dim")},
            "swa_head_dim": 16,
            "moe_shared_expert_intermediate_size": 32,
            "swa_qk_nope_head_dim": 8,
            "layer_types": ["indexed_attention", "sliding_attention", "indexed_attention"],
        },
    ),
    # Block only
    Family(
        "cohere_compass_text",
        {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                kind: {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2]}
                for kind in ("full_attention", "sliding_attention")
            },
        },
        **_PARALLEL,
    ),
    Family(
        "inkling2_text",
        _INKLING,
        sites=BLOCK,
        note="a block also reads the output of earlier blocks",
    ),
    Family(
        "qwen4_exp_text",
        {
            **_GATED_DELTA,
            "hc_lowrank": 8,
            "ple_embed_dim": 16,
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 16,
            "indexer_budget": 8,
            "indexer_compress_ratio": 4,
        },
        streams=4,
        **_HYPER,
    ),
    *(Family(name, **_PARALLEL) for name in ("cohere", "cohere2", "cohere2_moe", "phi")),
    *(Family(name, **_PARALLEL | _ATTN) for name in ("codegen", "gptj")),
    Family("gpt_neox", attention_output=("attention",), **_PARALLEL),
    Family("stablelm_parallel", {"use_parallel_residual": True}, "stablelm", **_PARALLEL),
    Family("falcon", {}, "", ("head_dim",), attention_output=("self_attention",), **_PARALLEL),
    Family(
        "falcon_two_norms",
        {"new_decoder_architecture": True, "num_kv_heads": 2},
        "falcon",
        ("head_dim",),
        attention_output=("self_attention",),
        **_PARALLEL,
    ),
    Family("mamba", **_ONE_BRANCH),
    Family("mamba2", {"num_heads": 8, "head_dim": 16, "n_groups": 1}, **_ONE_BRANCH),
    Family("falcon_mamba", **_ONE_BRANCH),
    Family(
        "nemotron_h",
        {
            "layers_block_type": ["linear_attention", "full_attention", "moe"],
            "moe_shared_expert_intermediate_size": 32,
            "n_groups": 1,
        },
        **_ONE_BRANCH,
    ),
    Family(
        "zamba",
        {
            "layers_block_type": _HYBRID_MAMBA,
            "attention_head_dim": 32,
            "mamba_dt_rank": 4,
        },
        **_ONE_BRANCH,
    ),
    Family(
        "zamba2",
        {
            "layers_block_type": _HYBRID_MAMBA,
            "mamba_ngroups": 1,
        },
        **_ONE_BRANCH,
    ),
    Family(
        "minimax",
        {"full_attn_beta_factor": 0.8, "linear_attn_beta_factor": 0.8},
        scale=0.8,
        **_RENORMED,
    ),
    *(
        Family(name, _DECODER, **_RENORMED)
        for name in (
            "bart bert bert-generation big_bird blenderbot-small camembert data2vec-text ernie "
            "marian mvp plbart rembert roberta roformer trocr xlm-roberta"
        ).split()
    ),
    Family("electra", {**_DECODER, "embedding_size": WIDTH}, **_RENORMED),
    Family("openai-gpt", **_RENORMED | _ATTN),
    Family(
        "opt_post_norm",
        {"do_layer_norm_before": False},
        "opt",
        **_RENORMED | _FC2,
    ),
    Family("zaya", {"num_experts_per_tok": 1}, sites=BLOCK, note="both terms of an add are scaled"),
    Family(
        "longcat_flash",
        {**_MLA, "zero_expert_num": 2},
        "",
        ("num_hidden_layers",),
        sites=BLOCK,
        blocks="model.layers",
        note="two pairs of branches, and half as many blocks as config.num_hidden_layers",
    ),
    Family(
        "gemma3n_text",
        {
            "num_kv_shared_layers": 0,
            "intermediate_size": [2 * WIDTH] * LAYERS,
            "activation_sparsity_pattern": [0.0] * LAYERS,
            "laurel_rank": 8,
        },
        streams=4,
        blocks="model.layers",
        **_HYPER,
    ),
    Family(
        "deepseek_v4",
        {
            "head_dim": 16,
            "num_key_value_heads": 1,
            "o_groups": 2,
            "o_lora_rank": 16,
            "index_n_heads": 2,
            "index_head_dim": 16,
            "index_topk": 4,
        },
        streams=4,
        **_HYPER,
    ),
    Family("hy_v4", streams=4, **_HYPER),
)
FAMILIES = {family.name: family for family in _ALL if family.available}
ATTENTION_FAMILIES = tuple(name for name, family in FAMILIES.items() if "attention" in family.sites)


def _config(family: Family) -> PreTrainedConfig:
    kind = CONFIG_MAPPING[family.model_type or family.name]
    entries = set(dir(kind)) | set(vars(kind()))
    sizes = {k: v for k, v in SIZES.items() if k in entries and k not in family.drop}
    return kind(**{**sizes, **copy.deepcopy(dict(family.overrides))})


def _vary(model: nn.Module) -> None:
    """Make what starts out constant uneven: norms, biases, gates, multipliers.

    All ones or zeros would hide how, and whether, they are applied.
    """
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        is_norm = "norm" in type(module).__name__.lower()
        for name, parameter in module.named_parameters(recurse=False):
            value = parameter.data
            if is_norm and name == "weight":
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.numel() > 1 and bool((value == value.flatten()[0]).all()):
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
        scalar = module._buffers.get("layer_scalar")  # gemma4
        if scalar is not None:
            scalar.fill_(0.9)


@cache
def _built(name: str) -> PreTrainedModel:
    config = _config(FAMILIES[name])
    torch.manual_seed(0)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
    _vary(model)
    return model.eval()


def build(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A fresh small random model of a family, in eval mode; the same weights at every call.

    What a model wants to keep in fp32 when it is loaded in a smaller type stays in fp32.
    """
    model = copy.deepcopy(_built(name))
    kept = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    model.to(dtype)
    for path, parameter in model.named_parameters():
        if any(part in path for part in kept):
            parameter.data = parameter.data.float()
    return model


def prompts(rows: int = 2, length: int = 7) -> torch.Tensor:
    """Token ids ``[rows, length]`` without special tokens."""
    generator = torch.Generator().manual_seed(2)
    return torch.randint(3, VOCABULARY, (rows, length), generator=generator)
