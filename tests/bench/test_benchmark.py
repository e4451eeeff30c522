"""The bench itself: all variants run, and what cannot run does not stop the others."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import StaticCache

from emokernel.bench import benchmark as bench_run
from emokernel.bench import decode, memory
from emokernel.bench.benchmark import BenchOptions, bench, failed
from emokernel.bench.cases import Case, cases
from emokernel.bench.compiling import check_backend, obstacle
from emokernel.bench.decode import Decoding, random_prompt
from emokernel.bench.stand_ins import scaled_random_vectors, stream_norms
from emokernel.bench.variants import CHOICES, VARIANTS, with_baselines
from emokernel.errors import EmokernelError, ModelStructureError

SHORT = {"new_tokens": 3, "rounds": 2, "compile_backend": "eager"}


def options(*names: str, **others) -> BenchOptions:
    return BenchOptions(tuple(with_baselines(names)), **(SHORT | others))


@pytest.fixture(autouse=True)
def _nothing_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_every_variant_is_measured_or_says_why_not(tiny, vectors):
    wanted = cases([2], [5], [0.5, 1], ["one", "different"])
    every, seen = options(*CHOICES), []
    for measured in bench(tiny(), vectors(), wanted, every):
        rows = {row["variant"]: row for row in measured.rows}
        assert list(rows) == [variant.name for variant in every.variants]
        for name, row in rows.items():
            if VARIANTS[name].mode == "graph" and not torch.cuda.is_available():
                assert row["not_run"] == "no GPU"
                continue
            assert row.get("not_run") is None, (name, row)
            assert row["rounds"] == 2
            assert 0 < row["token_ms"] <= row["token_ms_p90"] <= row["token_ms_p99"]
        assert not failed(measured.rows)
        seen.append(measured.case)
    assert seen == wanted


def test_nothing_is_compiled_again_within_a_batch_size(tiny, vectors):
    model = tiny()
    decoding = Decoding(
        model, vectors(), VARIANTS["emokernel_compiled"], random_prompt(model, 4, 5), 3, slots=8,
        compile_backend="eager", static=StaticCache(config=model.config, max_cache_len=8),
    )  # fmt: skip
    decoding.ask(Case(4, 5))
    before = counters["stats"]["unique_graphs"]
    decoding()
    assert counters["stats"]["unique_graphs"] == before + 1  # fullgraph: a break is an error
    for case in cases([4], [5], [0, 0.5, 1], ["one", "different", "blends"]):
        decoding.ask(case)
        decoding()
    assert counters["stats"]["unique_graphs"] == before + 1


class Calls:
    """Stands in for a graph on a CPU: the calls themselves."""

    def __init__(self, calls, _):
        self.run = calls[0]


@pytest.mark.parametrize(
    "name", ["plain_hook", "plain_hook_add", "emokernel", "emokernel_compiled", "emokernel_graph"]
)
def test_a_variant_steers_as_asked(name, tiny, vectors, monkeypatch):
    """What is timed steers these sequences and no others; graphs are run as calls on a CPU."""
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: None)
    monkeypatch.setattr(decode, "CapturedCalls", Calls)
    mode = VARIANTS[name].mode
    model, of = tiny(), vectors("block")
    seen: list[torch.Tensor] = []
    step = Decoding._step

    def stepping(self, model, tokens, cache):
        step(self, lambda **given: seen.append(model(**given)) or seen[-1], tokens, cache)

    monkeypatch.setattr(Decoding, "_step", stepping)
    static = None if mode == "eager" else StaticCache(config=model.config, max_cache_len=12)
    last = {}
    for kind in (VARIANTS[name].baseline, name):
        decoding = Decoding(
            model, of, VARIANTS[kind], random_prompt(model, 4, 5), 3, slots=8, static=static,
            compile_backend="eager",
        )  # fmt: skip
        for share in (0.0, 0.5):
            decoding.ask(Case(4, 5, share, 2))
            decoding()
            last[kind, share] = seen[-1].logits[:, -1]
    plain = last[VARIANTS[name].baseline, 0.0]
    torch.testing.assert_close(last[name, 0.0], plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last[name, 0.5][2:], plain[2:], rtol=1e-4, atol=1e-5)
    assert ((last[name, 0.5][:2] - plain[:2]).abs().amax(-1) > 1e-2).all()


def broken(monkeypatch, name: str, error: BaseException, after: int = 0) -> None:
    """Decodings of the steering and mode of a variant raise ``error`` from a call on."""
    of, calls, run = VARIANTS[name], {}, Decoding.__call__

    def call(self: Decoding):
        if self.variant == of:
            calls["n"] = calls.get("n", 0) + 1
            if calls["n"] > after:
                raise error
        return run(self)

    monkeypatch.setattr(Decoding, "__call__", call)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), "out of memory"),
        (MemoryError(), "out of memory"),
        (RuntimeError("No working C++ compiler found"), "there is no C++ compiler: install g++"),
        (TypeError("a\nb"), "failed: TypeError: a"),
    ],
)
def test_a_variant_that_fails_leaves_the_others(error, told, tiny, vectors, monkeypatch):
    broken(monkeypatch, "plain_hook", error)
    (measured,) = bench(tiny(), vectors(), [Case(1, 5)], options("plain_hook", "emokernel"))
    rows = {row["variant"]: row for row in measured.rows}
    assert rows.pop("plain_hook")["not_run"].startswith(told)
    assert all("token_ms" in row for row in rows.values())
    assert failed(measured.rows) is told.startswith("failed")


@pytest.mark.parametrize(
    ("error", "first", "second"),
    [
        (MemoryError(), "out of memory after 1 of 2 rounds", "out of memory"),
        (KeyError("a"), "failed after 1 of 2 rounds: KeyError: 'a'", "failed: KeyError: 'a'"),
    ],
)
def test_a_variant_that_fails_in_a_round_leaves_the_others(
    error, first, second, tiny, vectors, monkeypatch
):
    broken(monkeypatch, "plain_hook", error, after=1 + 2 + 1)  # prepared, warm, one round
    names = options("plain_hook", "emokernel")
    one, two = bench(tiny(), vectors(), [Case(1, 5), Case(1, 5, 0.0)], names)
    for measured, key, told in ((one, "stopped", first), (two, "not_run", second)):
        assert failed(measured.rows) is told.startswith("failed")
        rows = {row["variant"]: row for row in measured.rows}
        assert rows.pop("plain_hook")[key] == told
        assert {row["rounds"] for row in rows.values()} == {2}


def test_a_variant_asked_for_by_name_has_to_run(tiny, vectors, monkeypatch):
    asked = options("emokernel_graph", required=frozenset(["emokernel_graph"]))
    if not torch.cuda.is_available():
        with pytest.raises(EmokernelError, match="emokernel_graph cannot run here: no GPU"):
            list(bench(tiny(), vectors(), [Case(1, 5)], asked))
    broken(monkeypatch, "emokernel_compiled", RuntimeError("Cannot find a working triton"))
    asked = options("emokernel_compiled", required=frozenset(["emokernel_compiled"]))
    with pytest.raises(EmokernelError, match="emokernel_compiled cannot run here: there is no Tri"):
        list(bench(tiny(), vectors(), [Case(1, 5)], asked))


def test_finished_rounds_are_given_when_interrupted(tiny, vectors, monkeypatch):
    broken(monkeypatch, "emokernel", KeyboardInterrupt(), after=5)  # 1 + 2 + 2 of 10 rounds
    found = []
    running = bench(tiny(), vectors(), [Case(1, 5), Case(2, 5)], options("emokernel", rounds=10))
    with pytest.raises(KeyboardInterrupt):
        found.extend(running)
    (measured,) = found
    assert {row["rounds"] for row in measured.rows} == {2}


@pytest.mark.parametrize(
    ("case", "others", "told"),
    [
        (Case(9, 5, 1.0, 9), {"slots": 8}, "9 different mixes, but there are 8 slots"),
        (Case(1, 5), {"new_tokens": 1}, "--new-tokens must be at least 2"),
    ],
)
def test_what_cannot_be_measured_is_refused_before(case, others, told, tiny, vectors, monkeypatch):
    monkeypatch.setattr(bench_run, "Prepared", None)  # nothing is made
    with pytest.raises(EmokernelError, match=told):
        next(bench(tiny(), vectors(), [Case(1, 5), case], options("emokernel", **others)))


def test_random_vectors_are_in_the_scale_of_the_stream(tiny):
    model = tiny()
    norms = stream_norms(model)
    with torch.no_grad():  # as the first token's row is in many models
        model.get_input_embeddings().weight[0].fill_(1000.0)
    assert (stream_norms(model) < 5 * norms).all()
    vectors = scaled_random_vectors(model)
    norms = stream_norms(model)
    assert vectors.site == "attention"
    for name in vectors.names:
        torch.testing.assert_close(vectors[name].norm(dim=-1), 0.2 * norms)
    assert scaled_random_vectors(tiny("phi")).site == "block"  # both branches in one add
    with pytest.raises(ModelStructureError, match="no transformers config"):
        scaled_random_vectors(torch.nn.Linear(2, 2))


def test_weights_are_estimated_from_the_config(tiny, tmp_path, monkeypatch):
    model = tiny()
    model.save_pretrained(tmp_path)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert memory.weights_bytes(str(tmp_path), "auto") == 4 * count
    assert memory.weights_bytes(str(tmp_path), "bfloat16") == 2 * count
    cpu = torch.device("cpu")
    assert memory.available_bytes(cpu) > 2**20
    memory.check_weights(str(tmp_path), "auto", None, cpu)
    memory.check_weights(str(tmp_path / "none"), "auto", None, cpu)  # loading says what is wrong
    monkeypatch.setattr(memory, "available_bytes", lambda _: 4 * count - 1)
    with pytest.raises(EmokernelError, match="GiB are free: choose a smaller --dtype"):
        memory.check_weights(str(tmp_path), "auto", None, cpu)


def test_the_limit_of_a_control_group_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    cpu = torch.device("cpu")
    machine = memory.available_bytes(cpu)
    (tmp_path / "memory.max").write_text("2000\n")
    (tmp_path / "memory.current").write_text("500\n")
    assert memory.available_bytes(cpu) == 1500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(cpu) == pytest.approx(machine, rel=0.5)


def test_what_torch_compile_misses_is_told(monkeypatch):
    check_backend("inductor")
    with pytest.raises(EmokernelError, match="has no backend 'abacus': choose one of"):
        check_backend("abacus")
    assert obstacle(RuntimeError("something else")) is None


def test_a_missing_compiler_is_recognised():
    """By the very error that torch raises."""
    import torch._inductor.config as config

    with (
        config.patch(force_disable_caches=True, **{"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(RuntimeError, match=r"C\+\+ compiler") as raised,
    ):
        torch.compile(lambda x: (x + 1).sin())(torch.ones(8))
    assert obstacle(raised.value).startswith("there is no C++ compiler: install g++ or clang")


def test_missing_triton_is_recognised():
    from torch._inductor.exc import TritonMissing

    assert obstacle(TritonMissing(None)).startswith("there is no Triton for this GPU: pip install")
