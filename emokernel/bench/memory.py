"""Whether a model and its cache fit the memory, told before anything is allocated."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

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


def cache_bytes(config: Any, batch: int, columns: int, dtype: torch.dtype) -> int:
    """Bytes of the keys and values of ``batch`` sequences of ``columns`` tokens, at most.

    Sliding windows and layers without attention take less.
    """
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 1
    kept = getattr(text, "num_key_value_heads", None) or heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return 2 * text.num_hidden_layers * batch * columns * kept * width * dtype.itemsize


def batch_bytes(model: Any, batch: int, context: int, columns: int, caches: int = 1) -> int:
    """Bytes of ``batch`` sequences: their caches of ``columns`` tokens, their prompts and logits.

    Logits of the whole prompt where the model cannot be told to keep those of its last token.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    rows = batch if last_logits(model) else batch * context
    return (
        caches * cache_bytes(model.config, batch, columns, model.dtype)
        + batch * context * torch.long.itemsize
        + rows * vocabulary * model.dtype.itemsize
    )


def last_logits(model: Any) -> dict[str, int]:
    """The arguments of a call by which a model gives the logits of the last token alone."""
    forward = inspect.signature(type(model).forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in forward else {}


def refusal(needed: int, device: torch.device, what: str) -> str | None:
    """Why ``needed`` bytes for ``what`` cannot be had, or None."""
    free = available_bytes(device)
    if needed <= free:
        return None
    return f"{what} needs about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"


def check_weights(name: str, dtype: str, revision: str | None, device: torch.device) -> None:
    """EmokernelError if the weights are larger than the memory that is free.

    A config that cannot be read is no matter of this check: loading the model says why.
    """
    try:
        needed = weights_bytes(name, dtype, revision)
    except (OSError, ValueError, ImportError, KeyError):
        return
    problem = refusal(needed, device, f"the model {name}")
    if problem is not None:
        raise EmokernelError(f"{problem}: choose a smaller --dtype, or another --device-map")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )
