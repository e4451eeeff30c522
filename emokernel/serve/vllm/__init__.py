"""vLLM with an emotion for each request: names resolved for `emokernel.engines.vllm`, and HTTP."""

from emokernel.serve.vllm.plugin import install

__all__ = ["install"]
