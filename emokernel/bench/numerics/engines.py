"""The published formulas of projects within vLLM and llama.cpp, written from what they compute.

A decoder of vLLM returns the branch's output and the stream apart; these change one of them, and
the model rounds their sum afterwards, which is what is given back here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from emokernel.bench.numerics.formula import ADD, PRESERVE, RELATIVE, Formula, Given


def _payload(given: Given) -> Tensor:
    """round(scale * round(e))."""
    return given.vector.to(given.dtype) * given.weight


def _renormalised(h: Tensor, t: Tensor) -> Tensor:
    """round(t * |h| / (|t| + 1e-8)): norms rounded to the dtype, product and quotient in fp32."""
    before, after = (rows.norm(dim=-1, keepdim=True).float() for rows in (h, t))
    return (t.float() * before / (after + 1e-8)).to(h.dtype)


def _direct(given: Given) -> Tensor:
    """The rows behind the addition, of which nothing else is known: t = h + v, rounded."""
    return given.h + _payload(given)


def _direct_normalised(given: Given) -> Tensor:
    """A layer that returns its sum: t = round(h + v), then `_renormalised`. Chosen rows alone."""
    return given.only(lambda some: _renormalised(some.h, _direct(some)), given.h)


def _as_difference(steered: Callable[[Given], Tensor]) -> Callable[[Given], Tensor]:
    """The eager tier, on the branch: x' = x + (y - h), each rounded; then x' + residual."""

    def apply(given: Given) -> Tensor:
        branch = given.only(lambda some: some.x + (steered(some) - some.h), given.x)
        return branch + given.residual

    apply.__doc__ = steered.__doc__
    return apply


def _normalised(given: Given) -> Tensor:
    """y of `_direct_normalised`, written as a difference."""
    return _renormalised(given.h, _direct(given))


def _in_graph(flag: float) -> Callable[[Given], Tensor]:
    """The captured tier: x' = x + total + flag * mask * (y - t), everything gated by products.

    total = mask * v; t = h + total; y as `_renormalised` with both norms unrounded fp32. Computed
    for all rows, whatever they ask for.
    """

    def apply(given: Given) -> Tensor:
        mask, h = given.mask(), given.h
        # A row that asks for nothing reads the row of zeros of the table.
        v = torch.where(mask != 0, _payload(given), torch.zeros_like(h))
        total = mask * v
        t = h + total
        before, after = (rows.float().norm(dim=-1, keepdim=True) for rows in (h, t))
        y = (t.float() * before / (after + 1e-8)).to(t.dtype)
        return (given.x + total + flag * mask * (y - t)) + given.residual

    return apply


def _fp32_kernel(given: Given) -> Tensor:
    """x' = round(x + scale * round(e)) in fp32, of rows with a slot; then x' + residual."""

    def added(some: Given) -> Tensor:
        return (some.x.float() + some.weight * some.vector.to(some.dtype).float()).to(some.dtype)

    return given.only(added, given.x) + given.residual


def _table_rows(given: Given) -> Tensor:
    """residual' = residual + round(e) * round(scale), products and sums in the stream's dtype.

    A row that asks for nothing reads a row of zeros; then x + residual'.
    """
    row = torch.where(given.mask() != 0, given.vector.to(given.dtype), torch.zeros_like(given.x))
    return given.x + (given.residual + row * torch.tensor(given.weight, dtype=given.dtype))


def _lens(given: Given) -> Tensor:
    """x' = x + round(round(e) * scale), of the requests that ask for it; then x' + residual."""
    return given.only(lambda some: some.x + _payload(some), given.x) + given.residual


def _lens_matched(given: Given) -> Tensor:
    """As `_lens`, the vector as long as the row: round(e * (|h| / (|e| + 1e-6))), fp32 norms."""

    def matched(some: Given) -> Tensor:
        e = some.vector.to(some.dtype)
        ratio = some.h.float().norm(dim=-1, keepdim=True) / (e.float().norm() + 1e-6)
        return some.x + (e * ratio).to(some.dtype) * some.weight

    return given.only(matched, given.x) + given.residual


def _ggml(given: Given) -> Tensor:
    """y = h + v: strengths are multiplied in and vectors summed in fp32, and the stream is fp32."""
    return given.h + given.weight * given.vector


_EASY = "EasySteer-vllm-v1 6267ca0, vllm/steer_vectors/"
_LENS = "vllm-lens 7d252f7, vllm_lens/_worker_ext.py, "

IN_ENGINES = (
    Formula(
        "EasySteer eager", ADD, f"{_EASY}algorithms/direct.py and base.py, _batch_transform_tensor",
        _as_difference(_direct), on_branch=True, masks=True,
    ),
    Formula(
        "EasySteer eager, normalize", PRESERVE,
        f"{_EASY}algorithms/base.py, _renormalize and _batch_transform_tensor",
        _as_difference(_normalised), on_branch=True, masks=True,
    ),
    Formula(
        "EasySteer eager, normalize, summed", PRESERVE,
        f"{_EASY}algorithms/base.py, _renormalize (of a layer that returns its sum)",
        _direct_normalised, masks=True,
    ),
    Formula(
        "EasySteer in_graph", ADD, f"{_EASY}graph_kernels.py, apply_decoder_families",
        _in_graph(0.0), on_branch=True, masks=True,
    ),
    Formula(
        "EasySteer in_graph, normalize", PRESERVE,
        f"{_EASY}graph_kernels.py, apply_decoder_families", _in_graph(1.0), on_branch=True,
        masks=True,
    ),
    Formula(
        "hotwire", ADD, "hotwire-vllm 0.1.2, hotwire/_kernel.py, _steer_kernel", _fp32_kernel,
        on_branch=True, masks=True,
    ),
    Formula(
        "RhizoNymph", ADD,
        "RhizoNymph/vllm 6448e3c, vllm/model_executor/layers/steering_kernel.py and steering.py,"
        " apply_block_steering", _table_rows, on_branch=True, masks=True,
    ),
    Formula(
        "vllm-lens", ADD, f"{_LENS}_apply_steering", _lens, on_branch=True, masks=True
    ),
    Formula(
        "vllm-lens, norm_match", RELATIVE, f"{_LENS}norm_match", _lens_matched, on_branch=True,
        masks=True,
    ),
    Formula(
        "llama.cpp", ADD, "llama.cpp (llama-cpp-python 0.3.36), src/llama-adapter.cpp, apply_to:"
        " ggml_add in F32", _ggml, dtypes=(torch.float32,),
    ),
)  # fmt: skip
