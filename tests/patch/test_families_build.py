"""Every family builds and runs, and the oracle does to it what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from patch.families import ATTENTION_FAMILIES, FAMILIES, LAYERS, WIDTH, build, prompts
from patch.oracle import (
    Steered,
    child,
    decoder_blocks,
    first,
    hooked,
    replaced,
    steer_row,
    steered_logits_and_stream,
)
from torch import Tensor, nn

# What a block does to the row after the attention branch, besides adding to it.
AFTERWARDS: dict[str, Callable[[nn.Module], Any]] = {
    "doge": lambda block: block.post_attention_residual,
    "gemma4_text": lambda block: block.layer_scalar,
    "gemma4_unified_text": lambda block: block.layer_scalar,
}


def some_vectors(scale: float = 0.3) -> Tensor:
    return scale * torch.randn(LAYERS, WIDTH, generator=torch.Generator().manual_seed(5))


def test_table_covers_the_families():
    assert len(FAMILIES) >= 140
    assert len(ATTENTION_FAMILIES) >= 95


@pytest.mark.parametrize("name", FAMILIES)
def test_family_builds_runs_and_repeats(name):
    model, ids = build(name), prompts()
    mask = torch.ones_like(ids)
    blocks = decoder_blocks(model, FAMILIES[name])
    assert len(blocks) == LAYERS
    with torch.no_grad():
        logits = model(ids, attention_mask=mask).logits
        assert logits.isfinite().all()
        assert torch.equal(build(name)(ids, attention_mask=mask).logits, logits)
        mask[0, :3] = 0
        padded = model(ids, attention_mask=mask).logits
        assert padded[mask.bool()].isfinite().all()
        mask[:] = 1
    made = model.generate(ids, attention_mask=mask, max_new_tokens=3, do_sample=False)
    assert ids.shape[1] < made.shape[1] <= ids.shape[1] + 3


@pytest.mark.parametrize("name", FAMILIES)
def test_oracle_at_blocks(name):
    family, model, ids = FAMILIES[name], build(name), prompts()
    mask, vectors = torch.ones_like(ids), some_vectors()
    with torch.no_grad():
        before = model(ids, attention_mask=mask).logits

    def run(weight: float, law: str, rows: Tensor | None = None) -> Steered:
        return steered_logits_and_stream(
            model, ids, mask, vectors, family=family, law=law, weight=weight, rows=rows
        )

    plain = run(0.0, "add")
    assert torch.equal(plain.logits, before)
    assert torch.equal(run(0.0, "preserve").logits, before)
    assert all(stream.shape[-1] == WIDTH for stream in plain.streams)
    assert plain.streams[0].numel() == ids.numel() * WIDTH * family.streams
    added = run(1.0, "add")
    torch.testing.assert_close(added.streams[0], plain.streams[0] + vectors[0])
    assert not torch.equal(added.logits, before)
    kept = run(1.0, "preserve").streams[0]
    torch.testing.assert_close(kept.norm(dim=-1), plain.streams[0].norm(dim=-1))
    assert torch.equal(run(1.0, "add", torch.zeros_like(mask)).logits, before)


@pytest.mark.parametrize("name", ATTENTION_FAMILIES)
def test_oracle_at_attention_moves_the_row_between_the_branches(name):
    """With the second branch silenced, a block's output moves by the vector and nothing else."""
    family, model, ids = FAMILIES[name], build(name), prompts()
    mask, vectors = torch.ones_like(ids), some_vectors()
    blocks = decoder_blocks(model, family)
    with torch.no_grad():
        before = model(ids, attention_mask=mask).logits

    def run(weight: float, vectors: Tensor = vectors) -> Steered:
        return steered_logits_and_stream(
            model, ids, mask, vectors, family=family, site="attention", weight=weight
        )

    read: list[Tensor] = []
    handle = child(blocks[0], family.second_output).register_forward_pre_hook(
        lambda _module, args, kwargs: read.append((*args, *kwargs.values())[0]), with_kwargs=True
    )
    assert torch.equal(run(0.0).logits, before)
    assert not torch.equal(run(1.0).logits, before)
    handle.remove()
    assert not torch.equal(read[0], read[-1]), "the second branch does not see the moved row"

    def silence(_module, _args, output):
        return replaced(output, torch.zeros_like(first(output)))

    second = [b.get_submodule(part) for b in blocks for part in family.second_output]
    with hooked(*((module, silence) for module in second)):
        still = run(0.0).streams
        for depth, block in enumerate(blocks):
            alone = torch.zeros_like(vectors)
            alone[depth] = vectors[depth]
            moved = run(1.0, alone).streams[depth] - still[depth]
            factor = AFTERWARDS.get(name, lambda _: 1.0)(block)
            wanted = (vectors[depth] * factor).expand_as(moved)
            torch.testing.assert_close(moved, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("law", ["add", "preserve", "relative"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_row_laws(law, dtype):
    row = torch.randn(5, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(6))
    vector = some_vectors()[0]
    assert torch.equal(steer_row(row, vector, 0.0, law), row)
    new = steer_row(row, vector, 0.5, law)
    assert new.dtype == dtype
    if law == "preserve":
        torch.testing.assert_close(
            new.float().norm(dim=-1), row.float().norm(dim=-1), rtol=1e-2, atol=1e-2
        )
    else:
        dose = 0.5 * (row.float().norm(dim=-1, keepdim=True) if law == "relative" else 1.0)
        torch.testing.assert_close(new, (row.float() + dose * vector).to(dtype))
