"""How the kernels are queued: streams, graphs, devices, memory, and what runs just before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from row_cases import EPS, LAYER, Case, changed_in_place, changed_rows, exactly, fused, same_bits
from targets import Target
from torch import Tensor

from emokernel.reference import Cast

SHAPES = ((64, 4096), (7, 1000), (300, 8192))


def both_equal(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return same_bits(a[0], b[0]) and same_bits(a[1], b[1])


def capture(target: Target, case: Case, norm: Cast | str) -> tuple[torch.cuda.CUDAGraph, tuple]:
    """A graph of the operation, and its results."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        fused(target.backend, case, norm)  # what is compiled is compiled before the capture
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = fused(target.backend, case, norm)
    return graph, results


@pytest.mark.parametrize("norm", [Cast.LLAMA, LAYER])
def test_a_graph_replays_what_the_slots_say_now(gpu: Target, norm: Cast | str) -> None:
    for rows, d in SHAPES:
        case = gpu.make(rows, d, torch.bfloat16)
        graph, results = capture(gpu, case, norm)
        other = gpu.make(rows, d, torch.bfloat16, seed=1)
        for change in (
            lambda: None,
            lambda case=case, other=other: case.weights.copy_(other.weights),
            lambda case=case, other=other: case.ids.copy_(other.ids),
            lambda case=case: case.law.add_(1).remainder_(4),
            lambda case=case: case.token_slot.copy_(case.token_slot.flip(0)),
            lambda case=case: case.token_slot.fill_(-1),
            lambda case=case, other=other: case.x.copy_(other.x),
        ):
            change()
            graph.replay()
            assert both_equal(results, fused(gpu.backend, case, norm))


def test_a_graph_in_place_replays_what_the_slots_say_now(gpu: Target) -> None:
    """Behind what fills y and normed again: as an engine's own norm does in its graph."""
    operation = gpu.backend.steer_rms_norm_
    for rows, d in SHAPES:
        case = gpu.make(rows, d, torch.bfloat16)
        h = case.x + case.residual
        y, normed = h.clone(), case.x.clone()

        def step(case: Case = case, h: Tensor = h, y: Tensor = y, normed: Tensor = normed) -> None:
            y.copy_(h), normed.copy_(case.x)
            operation(y, normed, case.weight, EPS, int(Cast.VLLM), *case.tables)

        step()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        for change in (
            lambda: None,
            lambda case=case: case.law.add_(1).remainder_(4),
            lambda case=case: case.token_slot.copy_(case.token_slot.flip(0)),
            lambda case=case: case.token_slot.fill_(-1),
        ):
            change()
            graph.replay()
            assert both_equal((normed, y), changed_in_place(operation, case, Cast.VLLM))
        assert exactly(y, h)
        assert exactly(normed, case.x)


def test_nothing_is_waited_for_and_nothing_allocated_in_place(gpu: Target) -> None:
    case = gpu.make(64, 4096, torch.bfloat16)
    arguments = (case.x, case.residual, case.weight, EPS, int(Cast.VLLM), *case.tables)
    operation = gpu.ops.steer_rms_norm_.default
    operation(*arguments)
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    torch.cuda.set_sync_debug_mode("error")
    try:
        operation(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_streams_do_not_mix(gpu: Target) -> None:
    cases = [gpu.make(2048, 4096, torch.bfloat16, seed=seed) for seed in range(2)]
    alone = [fused(gpu.backend, case, Cast.LLAMA) for case in cases]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in cases]
    for _ in range(20):
        together = []
        for stream, case in zip(streams, cases, strict=True):
            with torch.cuda.stream(stream):
                together.append(fused(gpu.backend, case, Cast.LLAMA))
        torch.cuda.synchronize()
        assert all(both_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_it_runs_on_the_current_stream(gpu: Target) -> None:
    """Held up behind a long kernel of its stream, the operation has not run when asked."""
    case = gpu.make(8, 1024)
    fused(gpu.backend, case, Cast.LLAMA)
    torch.cuda.synchronize()
    stream, done = torch.cuda.Stream(), torch.cuda.Event()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        fused(gpu.backend, case, Cast.LLAMA)
        done.record()
    assert not done.query()
    torch.cuda.synchronize()
    assert done.query()


def test_nothing_is_waited_for_and_nothing_allocated(gpu: Target) -> None:
    case = gpu.make(64, 4096, torch.bfloat16)
    normed, y = torch.empty_like(case.x), torch.empty_like(case.x)
    operation = gpu.ops.add_steer_rms_norm_out.default
    operation(*case.norm_arguments(0), normed=normed, y=y)
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    torch.cuda.set_sync_debug_mode("error")
    try:
        operation(*case.norm_arguments(0), normed=normed, y=y)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


@pytest.mark.parametrize("field", ["x", "residual", "weight", "basis", "token_slot", "weights"])
def test_what_the_kernel_before_writes_is_seen(gpu: Target, field: str) -> None:
    """With dependent launch a kernel may start while the one before it still writes."""
    case = gpu.make(64, 4096, torch.bfloat16)
    other = gpu.make(64, 4096, torch.bfloat16, seed=1)
    versions = [getattr(case, field), getattr(other, field)]
    expected = [
        fused(gpu.backend, replace(case, **{field: version}), Cast.LLAMA) for version in versions
    ]
    live = replace(case, **{field: versions[0].clone()})
    graph, results = capture(gpu, live, Cast.LLAMA)
    for number in range(200):
        torch.cuda._sleep(1000)
        getattr(live, field).copy_(versions[number % 2])
        eager = fused(gpu.backend, live, Cast.LLAMA)
        graph.replay()
        assert both_equal(eager, expected[number % 2])
        assert both_equal(results, expected[number % 2])


@pytest.mark.parametrize("d", [4096, 16384])
def test_rows_go_by_slots_that_another_stream_rewrites(gpu: Target, d: int) -> None:
    """Each row by the slot that it had before or after, and no block waits for ever.

    The slots of the rows are rewritten, a word each; a record as a whole may be read half-written.
    """
    case = gpu.make(512, d, torch.bfloat16)
    versions = [case.token_slot, case.token_slot.flip(0), torch.full_like(case.token_slot, -1)]
    possible = [
        fused(gpu.backend, replace(case, token_slot=slots), Cast.LLAMA) for slots in versions
    ]
    live = replace(case, token_slot=case.token_slot.clone())
    torch.cuda.synchronize()
    writer = torch.cuda.Stream()
    for _ in range(50):
        with torch.cuda.stream(writer):
            for number in range(12):
                live.token_slot.copy_(versions[number % 3])
        rows = fused(gpu.backend, live, Cast.LLAMA)
        torch.cuda.synchronize()
        by_one = [(rows[0] == normed).all(-1) & (rows[1] == y).all(-1) for normed, y in possible]
        assert bool(torch.stack(by_one).any(0).all())


@pytest.mark.parametrize("norm", [Cast.LLAMA, LAYER])
def test_a_record_rewritten_meanwhile_parts_no_block(gpu: Target, norm: Cast | str) -> None:
    """Laws that wait at other barriers, and no component at all, in turn."""
    case = gpu.make(2048, 8192, torch.bfloat16)
    laws, weights = [case.law, (case.law + 1) % 4], [case.weights, torch.zeros_like(case.weights)]
    live = replace(case, law=case.law.clone(), weights=case.weights.clone())
    torch.cuda.synchronize()
    writer = torch.cuda.Stream()
    for _ in range(50):
        with torch.cuda.stream(writer):
            for number in range(12):
                live.law.copy_(laws[number % 2])
                live.weights.copy_(weights[number // 2 % 2])
        fused(gpu.backend, live, norm)
        torch.cuda.synchronize()  # it comes to an end
    live.law.copy_(case.law), live.weights.copy_(case.weights)
    assert both_equal(fused(gpu.backend, live, norm), fused(gpu.backend, case, norm))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second GPU: NOT tested on one")
def test_it_runs_where_its_tensors_are(gpu: Target) -> None:
    case = gpu.make(64, 4096, torch.bfloat16)
    there = case.to(torch.device("cuda", 1))
    assert torch.cuda.current_device() == 0
    results = fused(gpu.backend, there, Cast.LLAMA)
    assert torch.cuda.current_device() == 0
    torch.cuda.synchronize(1)
    here = fused(gpu.backend, case, Cast.LLAMA)
    assert both_equal(tuple(result.to(0) for result in results), here)


@pytest.mark.parametrize("norm", [Cast.GEMMA, LAYER])
def test_compiled_as_one_graph(gpu: Target, norm: Cast | str) -> None:
    case = gpu.make(16, 1024, torch.bfloat16)

    def block(x: Tensor) -> Tensor:
        normed, y = fused(gpu.backend, replace(case, x=x * 2), norm)
        return normed + y

    with torch.no_grad():
        for mode in ("default", "reduce-overhead"):
            compiled = torch.compile(block, fullgraph=True, mode=mode)
            for _ in range(3):
                assert same_bits(compiled(case.x).clone(), block(case.x))


def test_beyond_two_to_the_31_elements(gpu: Target) -> None:
    rows, d = 2**31 // 4096 + 3, 4096
    needed = 5 * rows * d * 2
    if torch.cuda.mem_get_info()[0] < needed:
        pytest.skip(f"less than {needed >> 30} GiB of GPU memory are free: long offsets NOT tested")
    case = gpu.make(13, d, torch.bfloat16)
    index = torch.arange(rows, device=gpu.device) % 13
    many = case.rows(index)
    normed, y = fused(gpu.backend, many, Cast.LLAMA)
    expected = fused(gpu.backend, case, Cast.LLAMA)
    for part in (slice(0, 13), slice(rows - rows % 13 - 13, rows - rows % 13)):
        assert both_equal((normed[part], y[part]), expected)
    y.copy_(many.x).add_(many.residual), normed.copy_(many.x)
    arguments = (many.weight, EPS, int(Cast.LLAMA), *many.tables)
    gpu.backend.steer_rms_norm_(y, normed, *arguments)
    changed = changed_rows(case)
    for part in (slice(0, 13), slice(rows - rows % 13 - 13, rows - rows % 13)):
        found = normed[part][changed], y[part][changed]
        assert both_equal(found, (expected[0][changed], expected[1][changed]))
