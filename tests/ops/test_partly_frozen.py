"""A fused norm that is to get a gradient is left to its module, whatever computes it otherwise."""

from __future__ import annotations

import pytest
import torch

from emokernel import patch


@pytest.mark.parametrize("compiles", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_norms_above_frozen_blocks_get_the_gradients_of_the_unpatched_model(
    family, compiles, target, tiny, vectors
):
    if compiles and not target.backend.fuses_compiled:
        pytest.skip("it leaves norms to torch.compile in any case")
    if compiles and target.slow:
        pytest.skip("what is traced is the same for other backends")
    found = []
    for patched in (False, True):
        model = tiny(family).to(target.device)
        model.requires_grad_(False)
        blocks = model.transformer.h if family == "gpt2" else model.model.layers
        blocks[2].requires_grad_(True)
        run = model
        if patched:
            steering = patch(model, vectors("block"), site="block", backend="reference")
            for placed in steering.placed:
                placed.backend = target.backend
            if compiles:
                torch.compiler.reset()
                run = torch.compile(model, fullgraph=True, backend="aot_eager")
        ids = torch.tensor([[5, 6, 7]])
        run(input_ids=ids, use_cache=False).logits.square().mean().backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert all(gradient is not None for gradient in found[1].values())
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-4, atol=1e-6)
