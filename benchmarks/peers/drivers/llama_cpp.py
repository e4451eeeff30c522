"""llama.cpp's control vectors, as `llama-cli --control-vector-scaled` applies them.

README of llama.cpp, tools/completion: `--control-vector-scaled FILE:SCALE` and
`--control-vector-layer-range START END`. One control vector steers a context, all sequences of it.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from llama import Context, Model, load_vectors
from protocol import HOOK, STEERED, Cannot, Driver, Mix


class Peer(Driver):
    """Reads GGUF files, of the model and of each emotion, which the parent wrote.

    A context is made, and given its vector, before the clock starts, as the program does; another
    one, never steered, is the unpatched model. Both are kept until another mix is asked for, so
    that each has run before, as the models of the other peers have. Keys and values are in fp16,
    its default, unless ``gguf`` says "exact": logits are then those of the Hugging Face folder.
    """

    laws = ("add",)
    packages = ("llama_cpp_python", "numpy")

    def open(
        self,
        model: str,
        dtype: str,
        threads: int,
        vectors: str,
        layers: list[int],
        gguf: dict[str, Any] | None = None,
    ) -> None:
        if gguf is None:
            raise Cannot("needs GGUF files")
        if dtype != "float32":
            raise Cannot(f"its GGUF file is in float32, not in {dtype}")
        self.exact = gguf.get("exact", False)
        self._model, self._files = Model(gguf["model"], threads, self.exact), gguf["vectors"]
        self._first, self._last = min(layers), max(layers)
        self._vector: np.ndarray | None = None
        self._contexts: dict[tuple[bool, int, int], Context] = {}

    def versions(self) -> dict[str, str]:
        kernels = "all" if self._model.repacked else "all but AMX and repacked ones"
        return {**super().versions(), "kernels": kernels}

    def ask(self, rows: list[Mix | None]) -> None:
        if any(row != rows[0] for row in rows):
            raise Cannot("one vector for the whole batch")
        self._close()
        self._vector = None
        if rows[0]:
            files = [(self._files[name], weight) for name, weight in rows[0].items()]
            self._vector = load_vectors(files)
            if self._vector is None:
                raise ValueError(f"llama.cpp refuses one of {[name for name, _ in files]}")

    def logits(self, how: str, prompts: list[list[int]], file: str) -> None:
        context = self._context(how, prompts, 0)
        context.start([ids[:-1] for ids in prompts])
        np.save(file, context.step([ids[-1:] for ids in prompts]))

    def decode(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
        context = self._context(how, prompts, new_tokens)
        times = [time.perf_counter()]
        logits = context.start(prompts)
        for number in range(new_tokens):
            tokens = logits.argmax(-1)
            times.append(time.perf_counter())
            if number + 1 < new_tokens:
                logits = context.step(tokens[:, None])
        first, *steps = np.diff(times).tolist()
        return {"first": first, "steps": steps}

    def memory(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, int]:
        self._close()  # what a context takes is counted, as the cache of others is
        return super().memory(how, prompts, new_tokens)

    def _context(self, how: str, prompts: list[list[int]], new_tokens: int) -> Context:
        if how == HOOK:
            raise Cannot("has no hooks")
        length = len(prompts[0]) + new_tokens
        # What llama.cpp makes of any length: a shorter generation runs in the same context.
        key = (how == STEERED, len(prompts), length + -length % 256)
        if key not in self._contexts:
            if any(shape[1:] != key[1:] for shape in self._contexts):
                self._close()
            context = self._contexts[key] = Context(self._model, *key[1:])
            if how == STEERED:
                context.steer(self._vector, self._first, self._last)
        return self._contexts[key]

    def _close(self) -> None:
        for context in self._contexts.values():
            context.close()
        self._contexts.clear()
