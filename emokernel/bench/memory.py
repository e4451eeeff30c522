"""Whether a model fits the memory, told before anything is allocated."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoConfig

from emokernel.errors import EmokernelError
from emokernel.model_class import model_class

_MEMORY, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def available_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated: of the GPU, or of the machine and of its control group.

    Without bounds where the system does not say (other than Linux).
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not _MEMORY.exists():
        return sys.maxsize
    fields = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines() if ":" in line)
    free = 1024 * int(fields["MemAvailable"].split()[0])
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def weights_bytes(name: str, dtype: str, revision: str | None = None) -> int:
    """Bytes of the weights of a model, from its config alone; ``dtype`` "auto": as it is stored.

    Raises what transformers raises for a config that cannot be read.
    """
    config = AutoConfig.from_pretrained(name, revision=revision)
    kind = config.dtype if dtype == "auto" else getattr(torch, dtype)
    with torch.device("meta"):
        model = model_class(config).from_config(config, dtype=kind or torch.float32)
    return model.get_memory_footprint(return_buffers=False)


def check_weights(name: str, dtype: str, revision: str | None, device: torch.device) -> None:
    """EmokernelError if the weights are larger than the memory that is free.

    A config that cannot be read is no matter of this check: loading the model says why.
    """
    try:
        needed = weights_bytes(name, dtype, revision)
    except (OSError, ValueError, ImportError, KeyError):
        return
    free = available_bytes(device)
    if needed > free:
        raise EmokernelError(
            f"the model {name} needs about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are"
            " free: choose a smaller --dtype, or another --device-map"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )
