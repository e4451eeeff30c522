"""What a measurement ran on: the machine and the versions, as plain dictionaries."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path

import torch

import emokernel

_PACKAGES = ("torch", "triton", "transformers", "numpy")


def machine() -> dict[str, object]:
    """CPU model, cores that may be used, threads of torch, cache sizes, GPU if there is one."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "caches": _caches(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def versions() -> dict[str, str | None]:
    """Versions of this package, Python and what the figures depend on; None if not installed."""
    found: dict[str, str | None] = {
        "emokernel": emokernel.__version__,
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def machine_slug() -> str:
    """A short file name for this machine, such as ``amd-epyc-2-cores``."""
    about = machine()
    name = f"{about['gpu'] or about['cpu']}-{about['cores']}-cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _cpu_model() -> str:
    """The name that Linux gives, with AMD's and Intel's family and model numbers behind it."""
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
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
