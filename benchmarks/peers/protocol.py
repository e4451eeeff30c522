"""What a driver is to the worker: the requests that it answers. Standard library only."""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

UNPATCHED, STEERED, HOOK = "unpatched", "steered", "hook"
Mix = dict[str, float]  # {emotion: weight}


class Cannot(Exception):
    """The peer cannot do this at all; the text says why. Its cell stays empty."""


class Driver(ABC):
    """One peer. ``laws`` it offers, whether rows of one batch may differ, packages to report.

    ``own_law``: in words, where the peer's law is none of ours; its "hook" then computes that law.
    ``exact``: False where the engine rounds what the Hugging Face folder's model does not: weights
    (quantised), or keys and values.
    """

    laws: tuple[str, ...] = ("add",)
    per_row: bool = False
    packages: tuple[str, ...] = ()
    own_law: str | None = None
    exact: bool = True
    rows: Sequence[Mix | None] = (None,)  # what was asked last

    def asked(self, rows: list[Mix | None]) -> None:
        """The request "ask"."""
        self.rows = rows
        self.ask(rows)

    def load(self, law: str, **request: Any) -> dict[str, Any]:
        """Loads the model with everything that steering under ``law`` needs; what the peer is."""
        if law in self.laws:
            self.law = law
            self.open(**request)
        return {
            "versions": self.versions(),
            "laws": list(self.laws),
            "per_row": self.per_row,
            "own_law": self.own_law,
            "exact": self.exact,
        }

    def versions(self) -> dict[str, str]:
        """Of all that the figures depend on."""
        return {name: importlib.metadata.version(name) for name in self.packages}

    @abstractmethod
    def open(
        self,
        model: str,
        dtype: str,
        threads: int,
        vectors: str,
        layers: list[int],
        gguf: dict[str, Any] | None = None,
    ) -> None:
        """Loads; ``vectors``: a safetensors file ``{emotion: [L, d]}`` in fp32.

        ``gguf``: {"model": file, "vectors": {emotion: file}}, where there are such files.
        """

    @abstractmethod
    def ask(self, rows: list[Mix | None]) -> None:
        """What each sequence is steered by from now on, None by nothing; Cannot if it cannot."""

    @abstractmethod
    def logits(self, how: str, prompts: list[list[int]], file: str) -> None:
        """Saves ``[batch, vocabulary]`` fp32 of the last position as .npy.

        All but the last token of ``prompts`` (of one length) are the prompt; the last one goes
        through the cache, as a generated token does.
        """

    @abstractmethod
    def decode(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
        """Greedy, exactly ``new_tokens`` each: seconds to the ``first`` and of later ``steps``."""

    def memory(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, int]:
        """Bytes resident before a generation, and at its peak."""
        gc.collect()  # or what a generation frees is taken for what it needs less
        trim()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = resident("VmRSS")
        self.decode(how, prompts, new_tokens)
        return {"before": before, "peak": resident("VmHWM")}


def resident(field: str) -> int:
    """Bytes of a field of /proc/self/status, as VmRSS and VmHWM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"the system does not tell {field}: memory is measured on Linux only")


def trim() -> None:
    """What the allocator of C keeps goes back to the system, where it can be asked to."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
