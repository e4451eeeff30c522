"""The row operations at one shape, over rotating buffers: what `benchmarks/gpu_ops.py` times.

A *set* is the memory of one call: the tensors that it reads, one behind the other, and those that
it writes. Calls take one set after the other, in turn, so that a large shape finds nothing of its
rows in the cache. All sets are views of one `Pool`. Inputs are random and never overwritten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch._inductor.config
from gpu_timing import Call
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from emokernel import reference
from emokernel.bench.decode import plain_steering
from emokernel.choices import LAW, law_bits
from emokernel.ops import schemas
from emokernel.ops.backends import load
from emokernel.reference import MAX_COMPONENTS, Cast, Law
from emokernel.state import UNTOUCHED, DeviceState, Mix

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}
LAWS = {**LAW, "relative": law_bits(LAW.default, "relative")}
# Tensors of rows x d elements that one call reads and writes.
READS = {name: 2 if name.startswith("add") else 1 for name in schemas.OPERATIONS}
WRITES = {name: 2 if "norm" in name else 1 for name in schemas.OPERATIONS}
SLOTS, VECTORS, LAYERS, EPS = 256, 32, 32, 1e-6
MIXES = (1, 3, 8)  # components of a steered row

_L2_TIMES = 4  # the sets of a graph together, in sizes of the L2
_MOST_SETS = 256
_LEAST_SECONDS = 400e-6  # of a graph, so that its own launch weighs nothing
_MOST_CALLS = 512
_BYTES_PER_SECOND, _SHORTEST_CALL = 4e12, 1.5e-6  # guesses, to choose a number of calls


@dataclass(frozen=True)
class Case:
    """One shape of one operation, and how it is to be measured."""

    operation: str
    rows: int
    d: int
    dtype: str = "bf16"
    law: str = LAW.default
    rivals: bool = False
    rounds: int = 10

    @property
    def bytes(self) -> int:
        """Read and written by a call, without weights and tables."""
        tensors = READS[self.operation] + WRITES[self.operation]
        return tensors * self.rows * self.d * DTYPES[self.dtype].itemsize

    @property
    def label(self) -> str:
        return f"{self.operation} {self.rows} x {self.d} {self.dtype} {self.law}"

    def sets(self, l2_bytes: int) -> int:
        """How many sets make 4 times the L2; at least 2, at most 256."""
        return min(max(math.ceil(_L2_TIMES * l2_bytes / self.bytes), 2), _MOST_SETS)

    def calls(self, sets: int, kernels: int = 1) -> int:
        """Calls of one graph: whole turns of the sets, for about 0.4 ms of work.

        ``kernels`` that one call launches: of calls with many, fewer are needed.
        """
        guess = kernels * max(_SHORTEST_CALL, self.bytes / _BYTES_PER_SECOND)
        wanted = min(_LEAST_SECONDS / guess, _MOST_CALLS)
        if kernels == 1:
            return sets * math.ceil(wanted / sets)
        return max(math.ceil(wanted), min(sets, _MOST_CALLS // kernels), 4)


class Pool:
    """The memory of all sets: random ``source`` elements to read, ``target`` elements to write."""

    def __init__(self, elements: int, dtype: torch.dtype, device: torch.device) -> None:
        self.source = torch.empty(elements, dtype=dtype, device=device).normal_()
        self.target = torch.zeros_like(self.source)

    @staticmethod
    def elements(cases: list[Case], l2_bytes: int) -> int:
        """The elements that the largest of ``cases`` needs."""
        return max(
            case.sets(l2_bytes) * max(READS[case.operation], WRITES[case.operation])
            * case.rows * case.d
            for case in cases
        )  # fmt: skip

    def rows(self, memory: Tensor, case: Case, number: int, tensors: int) -> Tensor:
        """The ``tensors`` tensors ``[tensors, rows, d]`` of set ``number``, in ``memory``."""
        size = tensors * case.rows * case.d
        return memory[number * size : (number + 1) * size].view(tensors, case.rows, case.d)

    def copy(self, case: Case, sets: int) -> list[Call]:
        """Copies of as many bytes as a call reads and writes, one for each set."""
        size = (READS[case.operation] + WRITES[case.operation]) * case.rows * case.d // 2

        def copying(number: int) -> Call:
            part = slice(number * size, (number + 1) * size)
            source, target = self.source[part], self.target[part]
            return lambda: target.copy_(source)

        return [copying(number) for number in range(sets)]


class Tables:
    """Basis, slots and norm weights of a model of ``LAYERS`` layers, as `emokernel.state` lays
    them out: 256 slots for each number of components, over 32 vectors."""

    def __init__(self, d: int, dtype: torch.dtype, law: Law, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        vectors = torch.randn(LAYERS, VECTORS, d, generator=generator)
        self._state = DeviceState(vectors, len(MIXES) * SLOTS, device, dtype)
        strengths = torch.rand(SLOTS, MAX_COMPONENTS, generator=generator).add(0.5).tolist()
        # A relative weight counts in units of the row's norm.
        scale = 0.1 if law & Law.RELATIVE else 1.0
        for group, components in enumerate(MIXES):
            for slot in range(SLOTS):
                numbers = [(slot + k) % VECTORS for k in range(components)]
                weights = [scale * weight for weight in strengths[slot][:components]]
                mix = Mix(tuple(zip(numbers, weights, strict=True)), law)
                self._state.write(group * SLOTS + slot, mix)
        parameters = torch.randn(2, LAYERS, d, generator=generator)
        self.weights = parameters[0].mul(0.1).add(1.0).to(device, dtype)
        self.biases = parameters[1].mul(0.1).to(device, dtype)

    def arguments(self, case: Case, number: int, token_slot: Tensor, width: int) -> tuple:
        """All that follows the rows in a call; ``width`` columns of the slots' components."""
        layer = number % LAYERS
        basis, ids, weights, law = self._state.tables[layer]
        tables = basis, token_slot, ids[:, :width], weights[:, :width], law
        if case.operation in ("add_steer_rms_norm", schemas.IN_PLACE):
            return self.weights[layer], EPS, int(Cast.LLAMA), *tables
        if case.operation == "add_steer_layer_norm":
            return self.weights[layer], self.biases[layer], EPS, *tables
        return tables

    def token_slot(self, rows: int, components: int) -> Tensor:
        """The slot of each row: in turn one of the 256 with that many components; 0: none."""
        if components == 0:
            slots = torch.full((rows,), UNTOUCHED, dtype=torch.int32)
        else:
            first = MIXES.index(components) * SLOTS
            slots = first + torch.arange(rows, dtype=torch.int32) % SLOTS
        return slots.to(self._state.device)


class Variants:
    """The calls of every variant at one shape, one for each set."""

    def __init__(self, case: Case, pool: Pool, tables: Tables, sets: int) -> None:
        self._case, self._tables = case, tables
        self.sets = sets
        reads, writes = READS[case.operation], WRITES[case.operation]
        self._read = [pool.rows(pool.source, case, number, reads) for number in range(sets)]
        self._written = [pool.rows(pool.target, case, number, writes) for number in range(sets)]

    def arguments(self, components: int, width: int = MAX_COMPONENTS) -> list[tuple]:
        """The arguments of a functional call, for each set."""
        token_slot = self._tables.token_slot(self._case.rows, components)
        return [
            (*read.unbind(), *self._tables.arguments(self._case, number, token_slot, width))
            for number, read in enumerate(self._read)
        ]

    def emokernel(self, backend: str, components: int) -> list[Call]:
        """The operation of a backend; with 0 components no row is steered.

        Into given outputs where it has a norm. Else its results are kept, so that each set has its
        own all the same. The one in place goes on from what its last call has left.
        """
        name = self._case.operation
        operation = _into(backend, name) if name in schemas.NORMS else _fresh(backend, name)

        def calling(number: int, arguments: tuple) -> Call:
            if name == schemas.IN_PLACE:
                h, *others = arguments
                normed, y = self._written[number].copy_(h).unbind()
                return lambda: operation(y, normed, *others)
            if name not in schemas.NORMS:
                return lambda: self._keep(number, operation(*arguments))
            normed, y = self._written[number].unbind()
            return lambda: operation(*arguments, normed=normed, y=y)

        return [calling(*pair) for pair in enumerate(self.arguments(components))]

    def _keep(self, number: int, y: Tensor) -> None:
        self._written[number] = y[None]

    def hook(self) -> list[Call]:
        """The model's own add and LlamaRMSNorm, with the plain hook between: one vector for all."""

        def calling(x: Tensor, residual: Tensor, weight: Tensor, basis: Tensor) -> Call:
            norm = LlamaRMSNorm(self._case.d, EPS)
            norm.weight = nn.Parameter(weight, requires_grad=False)
            vector = basis[0]

            def call() -> tuple[Tensor, Tensor]:
                y = plain_steering(residual + x, vector)
                return norm(y), y

            return call

        return [calling(*arguments[:3], arguments[5]) for arguments in self.arguments(1)]

    def compiled(self) -> list[Call]:
        """torch.compile of the specification for this very shape, with tables of one column."""
        # One or two kernels a shape need no pool of compiler processes.
        torch._inductor.config.compile_threads = 1
        torch._dynamo.reset()  # else what another size taught it makes the shapes dynamic, and slow
        function = torch.compile(getattr(reference, self._case.operation), dynamic=False)
        return [_bound(function, arguments) for arguments in self.arguments(1, width=1)]

    def liger(self) -> list[Call]:
        """Liger's fused add and RMSNorm, which steers nothing; ImportError where it is missing."""
        from liger_kernel.transformers.functional import liger_fused_add_rms_norm as operation

        return [
            _bound(operation, (*arguments[:3], EPS, 0.0, "llama", False))
            for arguments in self.arguments(0)
        ]


def _fresh(backend: str, operation: str) -> Callable:
    """The operation as torch has it, below the checks of the backend's function."""
    found = load(backend)
    if found.namespace is None:
        return getattr(found, operation)
    return getattr(getattr(torch.ops, found.namespace), operation).default


def _into(backend: str, operation: str) -> Callable[..., None]:
    """The operation of a backend into given outputs."""
    if load(backend).namespace is not None:
        return _fresh(backend, f"{operation}_out")
    function = _fresh(backend, operation)

    def call(*arguments: object, normed: Tensor, y: Tensor) -> None:
        for output, result in zip((normed, y), function(*arguments), strict=True):
            output.copy_(result)

    return call


def _bound(function: Callable, arguments: tuple) -> Call:
    return lambda: function(*arguments)
