"""What vLLM has compiled is used again for the same operations alone (trap 18)."""

from __future__ import annotations

import pytest

from emokernel import EmotionVectors
from emokernel.serve.vllm.plugin import load


@pytest.fixture
def key(engines, embedded, scratch):
    """``key(tensors, **choices)``: vLLM's hash of an engine that is told a file of these."""
    file = scratch / "keyed.safetensors"

    def key(tensors, **choices):
        EmotionVectors.from_tensors(tensors, site="attention").save(file)
        engines.close()
        load.cache_clear()  # as a new process would read it
        engine = engines(embedded, {"vectors": str(file), **choices})
        return engine.llm.llm_engine.vllm_config.compute_hash()

    return key


def test_it_is_of_the_operations_not_of_what_the_vectors_hold(key, engines, embedded):
    tensors = dict(zip(embedded.vectors.names, embedded.vectors.tensor.unbind(1), strict=True))
    fewer = {name: tensors[name] for name in ("joy", "fear")}
    keys = [key(tensors), key(fewer)]
    keys += [
        key(tensors, **more) for more in ({"site": "block"}, {"layers": [1]}, {"exact": False})
    ]
    keys.append(engines(embedded).llm.llm_engine.vllm_config.compute_hash())
    assert len(set(keys)) == len(keys)
    assert key({name: 2 * tensor for name, tensor in tensors.items()}) == keys[0]
