"""What a measurement ran on: the machine and the versions, as plain dictionaries."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

import torch

import emokernel

_PACKAGES = ("torch", "triton", "transformers", "numpy")


def machine() -> dict[str, object]:
    """CPU model, cores that may be used, threads of torch, cache sizes, GPU if there is one.

    ``gpu_facts`` says more of the GPU (see `gpu_facts`), None without one.
    """
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "caches": _caches(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "gpu_facts": gpu_facts(),
    }


_DRIVER_FACTS = {
    "driver_version": "driver",
    "clocks.current.sm": "sm_mhz",
    "clocks.current.memory": "memory_mhz",
    "clocks.max.sm": "sm_mhz_max",
    "clocks.max.memory": "memory_mhz_max",
    "power.limit": "power_limit_watts",
}


@cache
def gpu_facts() -> dict[str, object] | None:
    """The current GPU: multiprocessors, L2 and memory in bytes, compute capability, CUDA of torch.

    Where nvidia-smi runs, also the driver, its clocks in MHz (of the moment of the first call, and
    the highest) and power limit. Read once, so that it can still be told after a GPU failed.
    """
    if not torch.cuda.is_available():
        return None
    about = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "multiprocessors": about.multi_processor_count,
        "l2_bytes": about.L2_cache_size,
        "memory_bytes": about.total_memory,
        "capability": f"{about.major}.{about.minor}",
        "cuda": torch.version.cuda,
        **_driver_facts(),
    }


def _driver_facts() -> dict[str, str]:
    command = [
        "nvidia-smi", "-i", str(torch.cuda.current_device()), "--format=csv,noheader,nounits",
        f"--query-gpu={','.join(_DRIVER_FACTS)}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    first = next(iter(done.stdout.strip().splitlines()), "")
    values = [value.strip() for value in first.split(",")]
    return dict(zip(_DRIVER_FACTS.values(), values, strict=False))


def versions() -> dict[str, str | None]:
    """Versions of this package, Python and what the figures depend on; None if not installed."""
    numbers: dict[str, str | None] = {
        "emokernel": emokernel.__version__,
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            numbers[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            numbers[package] = None
    return numbers


def machine_slug() -> str:
    """A short file name for this machine, such as ``amd-epyc-2-cores``."""
    about = machine()
    name = f"{about['gpu'] or about['cpu']}-{about['cores']}-cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _cpu_model() -> str:
    """The name that Linux gives, with AMD's and Intel's family and model numbers behind it."""
    fields, source = {}, Path("/proc/cpuinfo")
    for line in source.read_text().splitlines() if source.exists() else ():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", platform.machine())
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields.get('model')})"
    return name


def _caches() -> dict[str, str]:
    """Size of each data cache that the first core sees, such as ``{"L1": "48K"}``."""
    sizes = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (folder / "type").read_text().strip() != "Instruction":
            level = (folder / "level").read_text().strip()
            sizes[f"L{level}"] = (folder / "size").read_text().strip()
    return sizes
