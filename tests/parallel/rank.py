"""One of the processes of `launcher.run_ranks`: runs every scenario, and saves what it found."""

from __future__ import annotations

import os
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import transformers
from parallel import data, experts, pipeline, sharded, tensor
from parallel.models import Models

SCENARIOS = {
    f"{part.__name__.rpartition('.')[2]}.{name}": scenario
    for part in (tensor, experts, data, sharded, pipeline)
    for name, scenario in part.SCENARIOS.items()
}


def main(folder: Path) -> None:
    """Every scenario in turn; what one raises is kept as its "error"."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    rank = int(os.environ["RANK"])
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=timedelta(seconds=30),
    )
    models = Models(folder)
    found = {}
    for name, scenario in SCENARIOS.items():
        start = time.monotonic()
        try:
            found[name] = scenario(models)
        except Exception:
            found[name] = {"error": traceback.format_exc()}
            print(name, found[name]["error"], flush=True)  # the others may be waiting for this one
        dist.barrier()
        print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
