"""What the plugin was tried with, and what it refuses: a server that was asked to steer must."""

from __future__ import annotations

from typing import Any

from emokernel.engines.vllm.settings import Settings
from emokernel.errors import SteeringError

TRIED = ("0.32.0",)


def check_version(version: str, settings: Settings) -> None:
    """SteeringError for a version of vLLM that the plugin was not tried with, unless forced."""
    if version.partition("+")[0] not in TRIED and not settings.any_version:
        raise SteeringError(
            f"emokernel was tried with vLLM {', '.join(TRIED)}, not with {version}: install one of"
            ' those, or set "any_version": true in its settings and compare what it says with a'
            " patched transformers model"
        )


def check_config(config: Any, *, rust: bool) -> None:
    """SteeringError for a mode of vLLM in which rows would be steered wrongly, or untried.

    ``rust``: whether its front end is the one in Rust.
    """
    parallel, speculative = config.parallel_config, config.speculative_config
    method = speculative and speculative.method
    transfers, second = config.kv_transfer_config, config.use_v2_model_runner
    split = max(parallel.prefill_context_parallel_size, parallel.decode_context_parallel_size)
    refused = {
        "its front end in Rust, which has no plugins": rust,
        "model runner V2 (VLLM_USE_V2_MODEL_RUNNER=1, or a feature that needs it)": second,
        "micro-batches, which split the rows": parallel.use_ubatching,
        "context parallelism, which splits the rows": split > 1,
        "KV transfer: connectors may share blocks by hashes of their own": transfers,
        "sleep mode, which drops the vectors": config.model_config.enable_sleep_mode,
        "LoRA": config.lora_config,
        "elastic expert parallelism": parallel.enable_elastic_ep,
        "weights that change while it runs": config.weight_transfer_config,
        f"speculative decoding by {method}: use ngram": method and method != "ngram",
        "models that do not generate": config.model_config.runner_type != "generate",
    }
    for what, asked in refused.items():
        if asked:
            raise SteeringError(f"emokernel does not steer vLLM with {what}: leave one of both out")
