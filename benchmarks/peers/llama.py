"""llama.cpp with control vectors, by the low-level functions of llama-cpp-python.

Its Python classes have no control vectors, so this does what `llama-cli --control-vector-scaled
FILE:STRENGTH --control-vector-layer-range START END` does: files are read by the loader of
llama.cpp itself, which lies in a library of the wheel, and given to the context.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np

Ids = Sequence[Sequence[int]]
_LOADER = "_Z26common_control_vector_loadRKSt6vectorI31common_control_vector_load_infoSaIS0_EE"
_F32 = 0  # GGML_TYPE_F32


@llama_cpp.llama_log_callback
def _quiet(level: int, text: bytes, data: object) -> None:
    if level >= 4:  # errors
        print(text.decode("utf-8", "replace"), end="", file=sys.stderr)


class _Info(ctypes.Structure):
    """``common_control_vector_load_info``: a float and a std::string."""

    _fields_ = (
        ("strength", ctypes.c_float),
        ("name", ctypes.c_char_p), ("length", ctypes.c_size_t), ("capacity", ctypes.c_size_t * 2),
    )  # fmt: skip


class _Vector(ctypes.Structure):
    """A std::vector."""

    _fields_ = (("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("room", ctypes.c_void_p))


class _Data(ctypes.Structure):
    """``common_control_vector_data``: the width, and a std::vector<float>."""

    _fields_ = (("width", ctypes.c_int), ("data", _Vector))


def load_vectors(files: Sequence[tuple[str, float]]) -> np.ndarray | None:
    """The sum of ``(file, strength)``, ``[layers, width]`` whose first row is of layer 1.

    None where llama.cpp refuses a file; it says why on stderr.
    """
    (library,) = Path(llama_cpp.__file__).parents[1].glob("lib/libllama-common.so")
    load = getattr(ctypes.CDLL(str(library)), _LOADER)
    load.restype, load.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p]
    texts = [str(name).encode() for name, _ in files]  # kept as long as they are pointed to
    infos = (_Info * len(files))()
    for info, text, (_, strength) in zip(infos, texts, files, strict=True):
        info.strength, info.name, info.length = strength, text, len(text)
    begin = ctypes.addressof(infos)
    end = begin + ctypes.sizeof(infos)
    given, found = _Vector(begin, end, end), _Data()
    load(ctypes.addressof(found), ctypes.addressof(given))
    if found.width < 0:
        return None
    count = (found.data.end - found.data.begin) // 4
    numbers = (ctypes.c_float * count).from_address(found.data.begin)
    return np.array(numbers, np.float32).reshape(-1, found.width)


class Model:
    """A GGUF file. ``exact``: keys and values stay in fp32, and attention is computed plainly.

    ``repacked`` says whether llama.cpp may keep weights in the forms of its fastest kernels. It may
    not where those end the process: virtual machines can show AMX without having it.
    """

    def __init__(self, path: str, threads: int, exact: bool = False) -> None:
        llama_cpp.llama_backend_init()
        llama_cpp.llama_log_set(_quiet, None)
        self.threads, self.exact = threads, exact
        self.repacked = _runs(path)
        parameters = llama_cpp.llama_model_default_params()
        parameters.use_extra_bufts = self.repacked
        self.pointer = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        if not self.pointer:
            raise ValueError(f"llama.cpp does not load {path}")
        self.layers = llama_cpp.llama_model_n_layer(self.pointer)
        self.width = llama_cpp.llama_model_n_embd(self.pointer)
        vocabulary = llama_cpp.llama_model_get_vocab(self.pointer)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(vocabulary)


class Context:
    """Room for ``batch`` sequences of ``length`` tokens, all steered by one control vector."""

    def __init__(self, model: Model, batch: int, length: int) -> None:
        self.model, self.batch = model, batch
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_seq_max = batch
        parameters.n_ctx = batch * (length + -length % 256)
        parameters.n_batch = parameters.n_ctx
        parameters.n_threads = parameters.n_threads_batch = model.threads
        if model.exact:
            parameters.type_k = parameters.type_v = _F32
            parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.pointer = llama_cpp.llama_init_from_model(model.pointer, parameters)
        if not self.pointer:
            raise MemoryError("llama.cpp makes no context")
        self._tokens = llama_cpp.llama_batch_init(batch * length, 0, 1)
        self._at = 0

    def steer(self, rows: np.ndarray | None, first: int = 1, last: int | None = None) -> None:
        """Add ``rows`` of `load_vectors` after blocks ``first`` to ``last``; None: add nothing.

        Layers that the rows lack keep what an earlier vector put there (llama.cpp's
        ``llama_adapter_cvec::apply``), so all are given.
        """
        model = self.model
        if rows is None:
            llama_cpp.llama_set_adapter_cvec(self.pointer, None, 0, model.width, 0, 0)
            return
        whole = np.zeros((model.layers - 1, model.width), np.float32)
        known = min(len(rows), len(whole))
        if rows.shape[1] == model.width:
            whole[:known] = rows[:known]
        pointer = whole.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        last = model.layers if last is None else last
        if llama_cpp.llama_set_adapter_cvec(
            self.pointer, pointer, whole.size, rows.shape[1], first, last
        ):
            raise ValueError("llama.cpp does not take this control vector")

    def start(self, prompts: Ids) -> np.ndarray:
        """Forget all; logits ``[batch, vocabulary]`` of the last token of each prompt."""
        memory = llama_cpp.llama_get_memory(self.pointer)
        llama_cpp.llama_memory_clear(memory, True)
        self._at = 0
        return self.step(prompts)

    def step(self, ids: Ids) -> np.ndarray:
        """Logits ``[batch, vocabulary]`` after as many more tokens for every sequence."""
        tokens, count = self._tokens, len(ids[0])
        tokens.n_tokens = count * len(ids)
        for row, of_row in enumerate(ids):
            for place, token in enumerate(of_row):
                at = row * count + place
                tokens.token[at], tokens.pos[at] = int(token), self._at + place
                tokens.n_seq_id[at], tokens.seq_id[at][0] = 1, row
                tokens.logits[at] = place == count - 1
        if llama_cpp.llama_decode(self.pointer, tokens):
            raise RuntimeError("llama_decode failed")
        self._at += count
        logits = [
            llama_cpp.llama_get_logits_ith(self.pointer, (row + 1) * count - 1)
            for row in range(len(ids))
        ]
        return np.stack([np.ctypeslib.as_array(each, (self.model.vocabulary,)) for each in logits])

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._tokens)
        llama_cpp.llama_free(self.pointer)


def _runs(path: str) -> bool:
    """Whether two tokens go through llama.cpp as it is by default, in a process of its own."""
    code = (
        "import sys, llama_cpp; llama_cpp.Llama(sys.argv[1], n_ctx=8, verbose=False).eval([1, 2])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True)
    if done.returncode == -signal.SIGILL:
        print("llama.cpp: its fastest kernels are illegal here; without them", file=sys.stderr)
    return done.returncode != -signal.SIGILL
