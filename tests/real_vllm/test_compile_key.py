"""What vLLM has compiled is used again for the same operations alone (trap 18)."""

from __future__ import annotations

import pytest
from real_vllm.engine import OPTIONS

from emokernel import EmotionVectors
from emokernel.serve.vllm.named import load


@pytest.fixture
def key(embedded, scratch):
    """``key(tensors, **choices)``: vLLM's hash of a server that is told a file of these."""
    from vllm import EngineArgs

    file = scratch / "keyed.safetensors"

    def key(tensors, **choices):
        told = {}
        if tensors is not None:
            EmotionVectors.from_tensors(tensors, site="attention").save(file)
            load.cache_clear()  # as a new process would read it
            told = {"additional_config": {"emokernel": {"vectors": str(file), **choices}}}
        made = EngineArgs(str(embedded.folder), **OPTIONS, **told).create_engine_config()
        return made.compute_hash()

    return key


def test_it_is_of_the_operations_not_of_what_the_vectors_hold(key, embedded):
    tensors = dict(zip(embedded.vectors.names, embedded.vectors.tensor.unbind(1), strict=True))
    fewer = {name: tensors[name] for name in ("joy", "fear")}
    keys = [key(None), key(tensors), key(fewer)]
    for more in ({"site": "block"}, {"layers": [1]}, {"exact": False}):
        keys.append(key(tensors, **more))
    assert len(set(keys)) == len(keys)
    assert key({name: 2 * tensor for name, tensor in tensors.items()}) == keys[1]
