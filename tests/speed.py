"""How long one call may take, as a ratio to another: all bounds, and how two calls are compared.

Both are called in turn, and the fastest readings are compared: on a busy machine a call can be held
up, but not be faster than it is. Bounds are 1.5 times what was measured on 2 idle
cores of an Intel Xeon (family 6, model 207), over a copy 1.7 times, so that twice the work is
noticed; of whole steps, whose ratios are near 1, they are nearer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from row_problem import repeats_for, timed

from emokernel.machine import machine

ROUNDS = 65
READING = 1e-4  # seconds of a reading, about: many short ones find a moment of peace


class Bounds(NamedTuple):
    """Of `add_steer_rms_norm` into given outputs, one thread, each row steered by one vector.

    ``steered``: over no row steered. ``mixed``: with mixes of 8 vectors, over 1, one slot for all
    rows. ``bytes``: over fp32 rows of as many bytes. ``copied``: over a copy of its bytes.
    """

    steered: float
    mixed: float
    bytes: float
    copied: float


# Rows that stay in the second-level cache, and some that do not.
SMALL, LARGE = (64, 1024), (512, 4096)
ROWS: Mapping[tuple[str, str], Mapping[tuple[int, int], Bounds]] = {
    ("avx2", "fp32"): {SMALL: Bounds(2.2, 1.5, 1.0, 4.8), LARGE: Bounds(2.1, 1.5, 1.0, 1.3)},
    ("avx2", "bf16"): {SMALL: Bounds(2.2, 1.5, 2.8, 10.0), LARGE: Bounds(2.2, 1.5, 1.3, 3.6)},
    ("avx2", "fp16"): {SMALL: Bounds(2.3, 1.5, 2.5, 9.0), LARGE: Bounds(2.3, 1.5, 1.2, 3.4)},
    ("avx512", "fp32"): {SMALL: Bounds(2.1, 1.5, 1.0, 4.2), LARGE: Bounds(2.1, 1.5, 1.0, 1.3)},
    ("avx512", "bf16"): {SMALL: Bounds(2.3, 1.5, 2.6, 7.4), LARGE: Bounds(2.1, 1.5, 1.2, 3.0)},
    ("avx512", "fp16"): {SMALL: Bounds(2.3, 1.5, 2.8, 8.2), LARGE: Bounds(2.2, 1.5, 1.2, 3.3)},
}
# Where all was measured. `bytes` and `copied` compare with memory, which differs by machine.
CPU = "Intel(R) Xeon(R) Processor (family 6, model 207)"


def is_here() -> bool:
    """Whether this is the machine that the bounds were measured on."""
    return machine()["cpu"] == CPU


def bounds(isa: str, dtype: str, shape: tuple[int, int]) -> dict[str, float]:
    """Those that hold on this machine, by their names in `Bounds`."""
    all_of_them = ROWS[isa, dtype][shape]._asdict()
    anywhere = "steered", "mixed"
    return {name: bound for name, bound in all_of_them.items() if is_here() or name in anywhere}


# A call of 1 x 1024 with fresh outputs, as a model makes it, over torch's sum of the two rows:
# measured 1.8.
CALL = 2.7
# A step of the embedded model patched over the same step unpatched, in processor time: 0.97 to
# 0.98. Of a model that is so small that little else takes time, in wall time: a step, `set`, a step
# of many mixes over one of one, opening requests over a step: 0.95 to 0.99, 0.11 to 0.12, 1.00 to
# 1.12, 0.36 to 0.39.
EMBEDDED_STEP = 1.1
STEP, SET, MIXES, REQUESTS = 1.25, 0.4, 1.35, 1.0


def fastest(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, float]:
    """Of each call its fastest reading in ``rounds``, in seconds; by default of this thread."""
    readings = {}
    for name, call in calls.items():
        repeats = repeats_for(READING, timed(call, clock=clock))
        readings[name] = timed(call, repeats, clock=clock)
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, read in readings.items():
            found[name] = min(found[name], read())
    return found
