"""How the Triton row kernel lays a row out: a function of the width and the dtype of the rows.

It never reads how many rows there are: the shape decides the order in which a row is summed, and a
row has to have the same bits in every batch.
"""

from __future__ import annotations

from functools import cache

import torch

MAX_D = 16384
_ACCESS_BYTES = 16
_WARP = 32
# Two vectors of 8 halves, or four of 4 floats, of each operand: a thread then needs 60 to 90
# registers, so that 600 to 1000 threads share a multiprocessor and keep 40 KB or more in flight.
_ELEMENTS_PER_THREAD = 16
# 32 warps would leave a thread 64 registers even where it holds no more than 16 elements.
_MAX_WARPS = 16
# A multiprocessor has 65536 registers. Of programs of 512 threads it runs two at a time, one that
# loads while the other sums, only if a thread needs no more than this.
_REGISTERS_OF_16_WARPS = 64
# Few enough that the parameters of a norm can wait in registers while the row is summed.
_PREFETCH_WARPS, _PREFETCH_BYTES_PER_THREAD = 8, 32


@cache
def launch_shape(d: int, dtype: torch.dtype) -> dict[str, int | bool]:
    """The settings of a kernel for rows ``[..., d]``, 1 <= d <= MAX_D, on every architecture.

    BLOCK is the row padded to a power of two. VECTOR is how many elements one access moves: 16
    bytes, and then every row has to start on 16 bytes, or 1, and then rows may start anywhere.
    PREFETCH: whether the parameters of a norm are loaded before the sums that do not need them.
    """
    if not 1 <= d <= MAX_D:
        raise ValueError(f"no launch shape for rows of {d}: 1 to {MAX_D} columns")
    block = 1 << (d - 1).bit_length()
    warps = min(max(block // (_WARP * _ELEMENTS_PER_THREAD), 1), _MAX_WARPS)
    vector = _ACCESS_BYTES // dtype.itemsize
    elements = block // (warps * _WARP)
    few_bytes = elements * dtype.itemsize <= _PREFETCH_BYTES_PER_THREAD
    settings: dict[str, int | bool] = {
        "D": d,
        "BLOCK": block,
        "VECTOR": vector if d % vector == 0 else 1,
        "PREFETCH": warps <= _PREFETCH_WARPS and few_bytes,
        "WARPS": warps,
        "num_warps": warps,
        "enable_fp_fusion": False,
    }
    if warps == _MAX_WARPS and elements <= _ELEMENTS_PER_THREAD:
        settings["maxnreg"] = _REGISTERS_OF_16_WARPS
    return settings
