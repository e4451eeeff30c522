"""One model in one process against the same model spread over processes, patched alike."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from parallel.models import REQUESTS, batch, logits, vectors
from transformers import PreTrainedModel

from emokernel import Steering, patch

# Site, and whether the norms are fused.
SOME = (("attention", True), ("block", False))
ALL = (*SOME, ("attention", False), ("block", True))


def against_one(
    one: PreTrainedModel, many: PreTrainedModel, how: tuple[tuple[str, bool], ...] = SOME
) -> dict[str, Any]:
    """What both compute: {what was asked for: (result of ``one``, of ``many``)}.

    ``unpatched``; then, for each of ``how``, ``off``, ``set``, ``requests`` (logits) and ``texts``
    (greedy tokens by request). ``twice``: ``one`` at double strength.
    """
    found: dict[str, Any] = {"unpatched": (logits(one), logits(many))}
    for site, fuse in how:
        steerings = [patch(model, vectors(site), fuse_norm=fuse) for model in (one, many)]
        name = f"{site}, {'fused' if fuse else 'plain'}"
        for asked, results in _steered((one, many), steerings).items():
            found[f"{name}: {asked}"] = results
        steerings[0].set("joy", 2.0)
        found[f"{name}: twice"] = (logits(one),) * 2
        for steering in steerings:
            steering.unpatch()
    return found | {"unpatched again": (logits(one), logits(many))}


def _steered(models: tuple[PreTrainedModel, ...], steerings: list[Steering]) -> dict[str, Any]:
    found = {"off": tuple(map(logits, models))}
    for steering in steerings:
        steering.set("joy", 1.0)
    found["set"] = tuple(map(logits, models))
    with ExitStack() as open_requests:
        for steering in steerings:
            open_requests.enter_context(steering.requests(REQUESTS))
        found["requests"] = tuple(map(logits, models))
        found["texts"] = tuple(
            model.generate(**batch(), max_new_tokens=4, do_sample=False) for model in models
        )
    return found


def check_against_one(
    found: dict[str, Any], how: tuple[tuple[str, bool], ...] = SOME, *, tells: float = 1000
) -> None:
    """Assert that the spread model computes what the one does, as nearly as without steering.

    The bound is 8 times the difference of the unpatched models, and no less than a few roundings
    in fp32; what steering does is more than ``tells`` bounds.
    """
    found = {name: [each.float() for each in pair] for name, pair in found.items()}
    one, many = found["unpatched"]
    bound = 8 * max(float((one - many).abs().max()), 2e-7)
    for name, (one, many) in found.items():
        if name.endswith("texts"):
            assert torch.equal(one, many), name
        else:
            assert float((one - many).abs().max()) <= bound, name
        if name.endswith("set"):  # the bound can tell steered once from not at all and from twice
            asked = name.removesuffix("set")
            for other in ("off", "twice"):
                assert (many - found[asked + other][0]).abs().max() > tells * bound, name
    assert len(found) == 2 + 5 * len(how)
    texts = found["attention, fused: texts"][1]
    assert len({tuple(text) for text in texts.tolist()}) == len(texts)
