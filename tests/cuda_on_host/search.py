"""Runs the CUDA kernels on the host in search of races (see search.cpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from cuda_on_host.build import searching_library
from row_cases import EPS, LAYER, Case
from torch import Tensor

from emokernel.reference import Cast

DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # as emokernel::DType counts them


class RaceError(AssertionError):
    """The threads of a block part, or race for a word."""


class _Rewrite(ctypes.Structure):
    _fields_ = [
        ("target", ctypes.c_void_p),
        ("bytes", ctypes.c_int64),
        ("versions", ctypes.c_void_p),
        ("count", ctypes.c_int64),
    ]  # fmt: skip


class _Rows(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in (
            "x residual weight bias y normed basis token_slot ids weights law".split()
        )),
        *((name, ctypes.c_int64) for name in (
            "rows d vectors slots components dtype basis_dtype cast".split()
        )),
        ("eps", ctypes.c_double),
    ]  # fmt: skip


class _Search(ctypes.Structure):
    _fields_ = [
        ("seed", ctypes.c_int64),
        ("apart", ctypes.c_int64),
        ("rewrites", ctypes.POINTER(_Rewrite)),
        ("count", ctypes.c_int64),
        ("most_reads", ctypes.c_int64),
    ]


@dataclass(frozen=True)
class Found:
    """Rows, their norm (None for steer and add_steer), and how often a block read one word of what
    was rewritten, at most."""

    y: Tensor
    normed: Tensor | None
    most_reads: int = 0


@cache
def _loaded(library: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(library))
    loaded.emokernel_host_rows.restype = ctypes.c_char_p
    return loaded


Rewrites = Sequence[tuple[Tensor, Tensor]]


def _rewrites(rewrites: Rewrites) -> ctypes.Array:
    return (_Rewrite * len(rewrites))(*(
        _Rewrite(tensor.data_ptr(), tensor.nbytes, versions.data_ptr(), len(versions))
        for tensor, versions in rewrites
    ))  # fmt: skip


InPlace = tuple[Tensor, Tensor]  # y and normed, which `steer_rms_norm_` changes


def _given(
    case: Case, norm: Cast | str | None, y: Tensor, normed: Tensor | None, in_place: bool
) -> _Rows:
    tables = {"basis": case.basis, "token_slot": case.token_slot, "ids": case.ids,
              "weights": case.weights, "law": case.law}  # fmt: skip
    memory = {"x": case.x, "residual": case.residual, "y": y, "normed": normed, **tables}
    if in_place:
        memory |= {"x": y, "residual": None}
    if norm is not None:
        memory["weight"] = case.weight
    if norm == LAYER:
        memory["bias"] = case.bias
    assert all(tensor is None or tensor.is_contiguous() for tensor in memory.values())
    return _Rows(
        **{name: None if tensor is None else tensor.data_ptr() for name, tensor in memory.items()},
        rows=case.x.shape[0], d=case.x.shape[1], vectors=case.basis.shape[0],
        slots=case.ids.shape[0], components=case.ids.shape[1],
        dtype=DTYPES.index(case.x.dtype), basis_dtype=DTYPES.index(case.basis.dtype),
        cast=int(norm) if isinstance(norm, Cast) else 0, eps=EPS,
    )  # fmt: skip


def run(
    case: Case,
    norm: Cast | str | None = None,
    *,
    seed: int | None = None,
    apart: bool = False,
    rewrites: Rewrites = (),
    library: Path | None = None,
    in_place: InPlace | None = None,
) -> Found:
    """add_steer of a case, with that norm; without a seed in order, and nothing is searched for.

    With rows that are ``in_place``, `steer_rms_norm_` of them.

    With one the threads of a block run in a random order: ``apart`` each for itself, else the lanes
    of a warp together, as one instruction of theirs does. Between any two steps each of the
    ``rewrites`` (tensor, versions ``[n, *tensor.shape]``) may put another version into its tensor.
    Raises RaceError.
    """
    y, normed = in_place or _outputs(case, norm)
    given = _given(case, norm, y, normed, in_place is not None)
    options = None if seed is None else _Search(seed, apart, _rewrites(rewrites), len(rewrites), 0)
    said = _loaded(library or searching_library()).emokernel_host_rows(
        ctypes.byref(given), None if options is None else ctypes.byref(options)
    )
    if said is not None:
        raise RaceError(said.decode())
    return Found(y, normed, options.most_reads if options else 0)


def _outputs(case: Case, norm: Cast | str | None) -> tuple[Tensor, Tensor | None]:
    return torch.empty_like(case.x), None if norm is None else torch.empty_like(case.x)


def most_reads_on_cpu(
    case: Case, norm: Cast | str | None, rewrites: Rewrites, in_place: InPlace | None = None
) -> int:
    """How often the portable kernel for CPUs reads, for one row, one word of what may be rewritten,
    at most."""
    y, normed = in_place or _outputs(case, norm)
    again = None if in_place is None else (y.clone(), normed.clone())
    options = _Search(0, 0, _rewrites(rewrites), len(rewrites), 0)
    _loaded(searching_library()).emokernel_host_cpu_rows(
        ctypes.byref(_given(case, norm, y, normed, in_place is not None)), ctypes.byref(options)
    )
    expected = run(case, norm, in_place=again)
    torch.testing.assert_close(y, expected.y)
    return options.most_reads
