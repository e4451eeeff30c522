"""A model that accelerate spreads over devices gives the same vectors."""

from __future__ import annotations

import pytest
import torch

from emokernel.lab.extract import Sampling, extract_answers
from emokernel.lab.extract.prompts import Conditioning
from emokernel.lab.extract.queries import Queries

accelerate = pytest.importorskip(
    "accelerate", reason="needs accelerate (device_map, offloading): pip install accelerate"
)
QUERIES = Queries([(None, text) for text in ("cat runs", "sun", "I am here now", "rain")])
CONDITIONING = Conditioning.prefix("I am {emotion} {query}", "I am here {query}")


def spread(model, how, folder):
    """With accelerate's hooks: on all parts, one block in a file, or every weight away."""
    if how == "offload":
        return accelerate.cpu_offload(model, execution_device="cpu")
    parts = ["model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"]
    places = dict.fromkeys([*parts, *(f"model.layers.{n}" for n in range(3))], "cpu")
    if how == "disk":
        places["model.layers.1"] = "disk"
    return accelerate.dispatch_model(
        model, places, main_device="cpu", force_hooks=True, offload_dir=str(folder)
    )


@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("how", ["dispatch", "disk", "offload"])
def test_vectors_of_a_spread_model_are_those_of_the_model(how, site, tiny, tokenizer, tmp_path):
    def extracted(model):
        return extract_answers(
            model, tokenizer, QUERIES, CONDITIONING, emotions=["happy", "cross"], site=site,
            sampling=Sampling(max_new_tokens=4), progress=False,
        )  # fmt: skip

    found = extracted(spread(tiny(), how, tmp_path))
    assert torch.equal(found.tensor, extracted(tiny()).tensor)
    assert found.tensor.flatten(1).any(1).all()
