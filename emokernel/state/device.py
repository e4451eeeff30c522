"""What the kernels read on one device: the basis of a model and the slots of its requests."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from emokernel.errors import SteeringError
from emokernel.reference import MAX_COMPONENTS, Law
from emokernel.state.mix import HEAD_WORDS, Mix
from emokernel.state.streams import Mark, Readers, Stream, readers_of

if TYPE_CHECKING:
    from emokernel.engines.compiled.plan_buffer import PlanBuffer

_serials = itertools.count()

# (basis, ids, weights, law) of a layer, as the operations take them.
Tables = tuple[Tensor, Tensor, Tensor, Tensor]


def next_serial() -> str:
    """A string, since torch.compile may make integers symbols."""
    return f"serial {next(_serials)}"


class Running:
    """What the forward that runs in a thread keeps for its blocks; None outside of one.

    ``token_slot`` and ``untouched`` are int32, at least one entry per row: the slot of each row,
    and -1 throughout. ``handed`` is (rows, their normed form, the norm that it was made for,
    ``counts``). ``counts``: whether torch counted writes to tensors when the forward began.
    ``tables``: what the adds read in the place of the state's (`DeviceState.tables_of_call`).
    ``checkpointed``: whether the block that runs will run again, so that both have to be alike.
    ``steered``: the layers whose steered add has run.
    """

    def __init__(self) -> None:
        self.token_slot: Tensor | None = None
        self.untouched: Tensor | None = None
        self.handed: tuple[Tensor, Tensor, str, bool] | None = None
        self.tables: list[Tables] | None = None
        self.checkpointed = False
        self.counts = True
        self.steered: set[int] = set()


class OfThread(threading.local):
    """``running`` of each thread: one look for what is read in every layer."""

    def __init__(self) -> None:
        # Not in the class, where torch.compile (2.11) finds it before that of the thread.
        self.running = Running()


class DeviceState:
    """The basis ``[L, E, d]`` and the slots of one device, and the rows of the running forward.

    A slot is one packed record of int32 words: ids ``[K]``, law, weights ``[L, K]`` (fp32 bits);
    one copy updates it. ``tables[l]`` are the views that the operations take.
    """

    def __init__(
        self,
        vectors: Tensor,
        slots: int,
        device: torch.device,
        dtype: torch.dtype,
        profile: Tensor | None = None,
        readers: Callable[[torch.device], Readers] = readers_of,
        lock: threading.RLock | None = None,
    ) -> None:
        """vectors ``[L, E, d]`` fp32 (zero where a layer is not steered), basis kept in dtype.

        ``profile`` ``[L]`` multiplies the weights of each layer, whatever the dose. ``readers``:
        what knows the streams of a device. ``lock`` is held while what forwards read is written or
        built anew; the states of one model share one. SteeringError if a vector overflows or
        vanishes in ``dtype``.
        """
        self.lock = lock or threading.RLock()
        self._readers_of = readers
        self._profile = torch.ones(vectors.shape[0]) if profile is None else profile
        self._vectors = vectors.detach().to("cpu", torch.float32)
        self.num_layers, self.num_slots = vectors.shape[0], slots
        self._heads = np.zeros((slots, HEAD_WORDS), np.int32)
        self.of_thread = OfThread()
        # The layers of which torch.compile has traced the steered add: what it made asks no Python.
        self.traced: set[int] = set()
        # What follows the state when the model is moved, for forwards that run without Python.
        self.plan_buffer: PlanBuffer | None = None
        # Gives the basis of each layer while vectors are learned.
        self.learned: Callable[[DeviceState], Sequence[Tensor]] | None = None
        self._build(device, dtype)

    def _build(self, device: torch.device, dtype: torch.dtype) -> None:
        vectors = self._vectors
        self.readers = self._readers_of(device)
        # What torch.compile tells these tensors from others by.
        self.serial = next_serial()
        with torch.inference_mode(False):
            self.basis = vectors.to(device=device, dtype=dtype).clone().contiguous()
            width = MAX_COMPONENTS + 1 + self.num_layers * MAX_COMPONENTS
            self.records = torch.zeros(self.num_slots, width, dtype=torch.int32, device=device)
        self.device = self.records.device  # where basis and slots live
        self.device_type = self.device.type
        self.dtype = dtype
        # Waits for all of the above: whatever stream reads it, it is there.
        norms = self.basis.float().norm(dim=-1).cpu()
        present = norms > 0
        if not norms.isfinite().all() or (present != vectors.any(-1)).any():
            raise SteeringError(
                f"the vectors do not fit {dtype}: some entries overflow or vanish; scale them"
            )
        # [2 * E, L]: what multiplies the weights of an absolute and then of a relative dose.
        scales = torch.stack([present.float(), torch.where(present, 1.0 / norms, 0.0)])
        scales = (scales * self._profile[:, None]).transpose(1, 2)
        self._scales = scales.reshape(-1, self.num_layers).contiguous().numpy()
        # The records on the host: one copy of a part of them is one update.
        self._host = torch.zeros_like(self.records, device="cpu", pin_memory=device.type == "cuda")
        self._words = self._host.numpy()
        # The records again: under torch.compile a view of another dtype would be a copy.
        self.record_floats = self.records.view(torch.float32)
        fixed = self.basis, self.records, self.record_floats
        # Of each layer, (basis ``[E, d]``, ids ``[S, K]``, weights ``[S, K]``, law ``[S]``): views.
        self.tables = [views_of_layer(*fixed, number) for number in range(self.num_layers)]
        self._writes = 0
        # Where the forwards have run that may read what a free slot held.
        self._left: dict[int, list[Mark]] = {}
        self._kept: dict[Stream | None, tuple[int, list[Tables]]] = {}
        self._constant: dict[tuple[int, int], Tensor] = {}

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Within it, decide which slots the rows of a forward have, and copy or queue their reader.

        A slot that is released meanwhile is given out again only behind that forward. What holds
        its slots by itself (`MixSlots`) has to ask for its rows in here as well.
        """
        with self.lock:
            self.readers.read()
            yield

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """Build everything anew for a model that was moved or cast; slots hold what they held.

        SteeringError while vectors are learned.
        """
        if self.learned is not None:
            raise SteeringError(
                "the model was moved or cast while vectors are learned: move it before"
                " steering.learning(...)"
            )
        with self.lock:
            self.readers.keep(self._read())
            self._build(device, dtype)
            if self.plan_buffer is not None:
                self.plan_buffer = self.plan_buffer.on(device)
            self.write_all(range(self.num_slots), self._heads.tobytes())

    def _read(self) -> Iterator[Tensor]:
        """What forwards may be reading."""
        yield from (self.basis, self.records, *self._constant.values())
        if self.plan_buffer is not None:
            yield from self.plan_buffer.fixed

    @property
    def fixed(self) -> tuple[Tensor, ...]:
        """The tensors whose addresses stay until `move`."""
        return self.basis, self.records, self.record_floats

    @property
    def running(self) -> Running:
        """What the forward that runs in this thread keeps."""
        return self.of_thread.running

    def tables_of_call(self) -> list[Tables]:
        """What the adds of the forward that begins read in the place of ``tables``.

        Slots that later writes leave alone: other threads may ask for something else while it runs,
        and the backward pass reads them too. While vectors are learned, a basis that holds them.
        """
        # One copy a stream until the next write.
        stream, writes = self.readers.current(), self._writes
        kept = self._kept.get(stream)
        if kept is None or kept[0] != writes:
            with torch.inference_mode(False), torch.no_grad():
                kept = self._kept[stream] = writes, self.copied_tables()
        if self.learned is None:
            return kept[1]
        layers = zip(self.learned(self), kept[1], strict=True)
        return [(basis, ids, weights, law) for basis, (_, ids, weights, law) in layers]

    def copied_tables(self) -> list[Tables]:
        """As ``tables``, with a copy of the slots, by few operations: layers share ids and law."""
        records = self.records.clone()
        ids, law = records[:, :MAX_COMPONENTS], records[:, MAX_COMPONENTS]
        weights = records.view(torch.float32)[:, MAX_COMPONENTS + 1 :]
        weights = weights.view(-1, self.num_layers, MAX_COMPONENTS)
        layers = zip(self.basis, weights.unbind(1), strict=True)
        return [(basis, ids, weight, law) for basis, weight in layers]

    def write(self, slot: int, mix: Mix) -> None:
        """Put ``mix`` into ``slot``: `write_all` of one."""
        self.write_all([slot], mix.head)

    def write_all(self, slots: Sequence[int], heads: bytes, *, non_blocking: bool = False) -> None:
        """Put mixes, their `Mix.head` side by side, into ``slots`` with one host-to-device copy.

        Nothing changes if that fails. On a GPU after the forwards that may read what a slot held
        before (`retire`), and before all that begin when this has returned, whatever their stream;
        with ``non_blocking`` all that begin on this stream, and the caller waits until the copy has
        been made before the next call.
        """
        given = np.frombuffer(heads, np.int32).reshape(len(slots), HEAD_WORDS)
        numbers, first, last = given[:, :MAX_COMPONENTS], min(slots), max(slots)
        # A run of slots in their order is a slice, which numpy fills much faster.
        changed, where = slice(first, last + 1), list(slots)
        where = changed if where == list(range(first, last + 1)) else where
        for what, number, total in (
            ("slot", first, self.num_slots), ("slot", last, self.num_slots),
            ("vector", numbers.min(), self.basis.shape[1]),
            ("vector", numbers.max(), self.basis.shape[1]),
        ):  # fmt: skip
            if not 0 <= number < total:
                raise SteeringError(f"{what} {number} does not exist: there are {total}")
        with self.lock:
            left = self._left.keys() & set(slots) if self._left else ()
            for slot in left:
                self.readers.wait(self._left[slot])
            self._put(where, given)
            try:
                self.records[changed].copy_(self._host[changed], non_blocking=non_blocking)
            except BaseException:
                self._put(where, self._heads[where])
                raise
            for slot in left:
                del self._left[slot]
            self._heads[where] = given
            self._writes += 1

    def _put(self, where: slice | list[int], heads: np.ndarray) -> None:
        """Make the records of some slots on the host those of ``heads [n, HEAD_WORDS]``."""
        records = self._words[where]  # themselves, or of a list a copy
        records[:, : MAX_COMPONENTS + 1] = heads[:, : MAX_COMPONENTS + 1]
        records[:, MAX_COMPONENTS + 1 :] = 0
        of_layers = records[:, MAX_COMPONENTS + 1 :].view(np.float32)
        of_layers = of_layers.reshape(len(heads), self.num_layers, MAX_COMPONENTS)
        words = heads.T.copy()
        ids, law = words[:MAX_COMPONENTS], words[MAX_COMPONENTS]
        weights = words[MAX_COMPONENTS + 1 :].view(np.float32)
        rows = ids + ((law & int(Law.RELATIVE)) != 0) * self.basis.shape[1]
        for k in np.flatnonzero(weights.any(1)):
            scales = self._scales.take(rows[k], axis=0)
            np.multiply(scales, weights[k, :, None], out=of_layers[:, :, k])
        if isinstance(where, list):
            self._words[where] = records

    def retire(self, slot: int) -> None:
        """No forward that begins from now on reads ``slot``; those that have begun may."""
        with self.lock:
            self._left[slot] = self.readers.mark()

    def constant_rows(self, rows: int, slot: int) -> Tensor:
        """At least ``rows`` int32 entries that all say ``slot``; kept, as a graph may read them."""
        size = 256 if rows <= 256 else 1 << (rows - 1).bit_length()
        held = self._constant.get((slot, size))
        if held is not None:
            return held
        if self.readers.capturing():  # filled when the graph is replayed: for no other forward
            return torch.full((size,), slot, dtype=torch.int32, device=self.device)
        with self.lock, torch.inference_mode(False):
            # Made on the host, so that it is there whatever stream reads it.
            made = torch.full((size,), slot, dtype=torch.int32).to(self.device)
            return self._constant.setdefault((slot, size), made)


def views_of_layer(basis: Tensor, records: Tensor, floats: Tensor, layer: int) -> Tables:
    """The basis and the slots of one layer; ``floats`` are the records as fp32."""
    start = MAX_COMPONENTS + 1 + layer * MAX_COMPONENTS
    weights = floats[:, start : start + MAX_COMPONENTS]
    return basis[layer], records[:, :MAX_COMPONENTS], weights, records[:, MAX_COMPONENTS]
