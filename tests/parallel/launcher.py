"""Runs the scenarios in several processes that talk by gloo, and brings back what they found."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

PROCESSES = 2


def run_ranks(
    folder: Path, program: str = "parallel.rank", limit: float = 240.0
) -> list[dict[str, Any]]:
    """What each rank of ``program`` found: {scenario: {name: value}}.

    A process that fails, or all that are not done after ``limit`` seconds, end the others, and
    what they printed is raised as a RuntimeError.
    """
    started = [_start(program, rank, folder) for rank in range(PROCESSES)]
    end = time.monotonic() + limit
    try:
        while any(process.poll() is None for process in started):
            if time.monotonic() > end or any(process.poll() for process in started):
                break
            time.sleep(0.05)
    finally:
        for process in started:
            process.kill()
            process.wait()
    if any(process.returncode for process in started):
        logs = (f"rank {rank}: {_log(rank, folder).read_text()}" for rank in range(PROCESSES))
        raise RuntimeError("\n".join(logs))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


def _start(program: str, rank: int, folder: Path) -> subprocess.Popen:
    environment = os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(PROCESSES),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    if sys.platform == "linux":  # where a machine's own name may lead nowhere
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    with _log(rank, folder).open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", program, str(folder)],
            env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip


def _log(rank: int, folder: Path) -> Path:
    return folder / f"{rank}.log"
