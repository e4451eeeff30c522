"""Every CUDA kernel once, on few rows, to be run under compute-sanitizer.

compute-sanitizer --tool memcheck --error-exitcode 1 python tests/gpu/sanitize.py
compute-sanitizer --tool racecheck --error-exitcode 1 python tests/gpu/sanitize.py
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from row_cases import DTYPES, LAYER, changed_in_place, fused
from targets import target

from emokernel.reference import Cast

# One vector per thread, two, and too long to keep; aligned, and not.
WIDTHS = (64, 61, 1000, 4096, 4099, 20008)


def main() -> None:
    cuda = target("cuda")
    for dtype, d, norm in product(DTYPES, WIDTHS, (Cast.LLAMA, Cast.VLLM, LAYER)):
        case = cuda.make(13, d, dtype)
        fused(cuda.backend, case, norm)
        cuda.backend.steer(case.x, *case.tables)
        cuda.backend.add_steer(case.x, case.residual, *case.tables)
        changed_in_place(cuda.backend.steer_rms_norm_, case, Cast.VLLM)
    torch.cuda.synchronize()
    print("every kernel ran")


if __name__ == "__main__":
    main()
