"""The benchmark of other systems: who lies is caught, who cannot or dies is told, others go on."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emokernel.bench.harness import read

HERE = Path(__file__).parent
PEERS = HERE.parents[1] / "benchmarks" / "peers"


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """benchmarks/peers is a folder of scripts, whose modules are imported as theirs are."""
    before = set(sys.modules), list(sys.path)
    sys.path[:0] = [str(PEERS), str(HERE)]
    yield
    sys.path[:] = before[1]
    for name in set(sys.modules) - before[0]:
        file = Path(getattr(sys.modules[name], "__file__", None) or "/")
        if PEERS in file.parents or HERE in file.parents:
            del sys.modules[name]


class Here:
    """`client.Worker` without a process: the same requests and answers."""

    def __init__(self, driver: Any, name: str = "peer") -> None:
        self.name, self._driver = name, driver

    def __call__(self, do: str, **arguments: Any) -> Any:
        import client
        import worker

        answers = io.StringIO()
        worker.serve(lambda: self._driver, [json.dumps({"do": do, **arguments})], answers)
        answer = json.loads(answers.getvalue())
        if "cannot" in answer:
            raise client.Refused(answer["cannot"])
        if "error" in answer:
            raise client.Failed(answer["error"])
        return answer["ok"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import shapes

    return shapes.prepare("embedded", tmp_path_factory.mktemp("models"))


def loaded(driver: Any, model: Any, law: str = "add") -> tuple[Here, dict[str, Any]]:
    worker = Here(driver)
    about = worker(
        "load", model=str(model.folder), dtype="float32", threads=1, vectors=str(model.vectors),
        layers=model.layers, law=law, gguf=None,
    )  # fmt: skip
    return worker, about


def checked(driver: Any, model: Any, law: str = "add") -> Any:
    import check
    from drivers import plain_hook

    worker, about = loaded(driver, model, law)
    reference, _ = loaded(plain_hook.Peer(), model, law)
    return check.Checker(reference, model, "float32")(worker, law, about)


@pytest.mark.parametrize("law", ["add", "preserve"])
@pytest.mark.parametrize("name", ["plain_hook", "emokernel"])
def test_who_does_what_it_says_is_timed_in_every_case(name: str, law: str, model: Any) -> None:
    import shapes
    import worker

    seen = checked(worker.driver(name), model, law)
    for case in shapes.cases([1, 8], [0.5, 1], [1, 8], ["add"]):
        assert seen.refusal(case) is None
    for probe in (seen.one, seen.batch, seen.rows):
        assert probe.cosine > 0.99999
    assert seen.idle["bits"] is (name == "plain_hook")  # with norms fused they round elsewhere


@pytest.mark.parametrize(
    ("liar", "law", "where", "fault"),
    [
        ("Nothing", "add", "one", "steers nothing"),
        ("Twice", "add", "one", "not what the hook does"),
        ("FirstRow", "add", "batch", "does not steer row 1 and 2 of 3"),
        ("EveryRow", "add", "rows", "not what the hook does"),
        ("AddsUnderAnyLaw", "preserve", "one", "not what the hook does"),
        ("NextLayer", "add", "one", "not what the hook does"),
        ("NeverOff", "add", "one", "steers where nothing is asked"),
        ("OnThePromptOnly", "add", "one", "not what the hook does"),
        ("InPlace", "add", "one", "the unpatched model has changed"),
        ("AnotherModel", "add", "one", "it runs another model"),
    ],
)
def test_who_does_something_else_is_not_timed(
    liar: str, law: str, where: str, fault: str, model: Any
) -> None:
    import shapes
    import worker

    seen = checked(worker.driver(f"peer_liars:{liar}"), model, law)
    assert fault in getattr(seen, where).fault
    alone, batch, differing = shapes.Case(1), shapes.Case(8), shapes.Case(8, mixes=8)
    assert (seen.refusal(alone) is None) is (where != "one")
    assert (seen.refusal(batch) is None) is (where == "rows")
    assert seen.refusal(differing) is not None


def started(name: str, **options: Any) -> Any:
    import client

    path = {"PYTHONPATH": f"{HERE}"}
    return client.Worker(
        name, sys.executable, f"peer_stand_ins:{name}", environment=path, **options
    )


def test_one_that_cannot_and_one_that_dies_while_a_third_prints(model: Any) -> None:
    import rounds
    import shapes

    workers = [started(name) for name in ("Counting", "OneMix", "Dying")]
    for worker in workers:
        worker("load", law="add", model="")
    peers = [rounds.Timed(worker) for worker in workers]
    case = shapes.Case(4, mixes=2)
    rounds.measure_case(
        peers, model, case, prompt_tokens=4, new_tokens=3, rounds=6, memory_rounds=1
    )
    counting, one_mix, dying = (rounds.row(peer, model, case) for peer in peers)
    assert counting["rounds"] == 6
    assert counting["token_ratio"] == [2, 2, 2]
    assert counting["first_ratio"] == [2, 2, 2]
    assert counting["added_ms_per_layer"] == [1000 / len(model.layers)] * 3
    assert counting["memory_bytes"]["steered"] >= 0
    assert one_mix["empty"] == "one vector for the whole batch"
    assert dying["rounds"] == 1
    assert dying["stopped"] == "died (exit status 3: out of memory, or so)"
    assert "stopped" not in counting
    for worker in workers:
        worker.close()


def test_after_its_seconds_a_case_has_the_rounds_that_an_interval_needs(model: Any) -> None:
    import peer_stand_ins
    import rounds
    import shapes

    peer = rounds.Timed(Here(peer_stand_ins.Counting()))
    sizes = {"prompt_tokens": 4, "new_tokens": 3, "rounds": 50, "memory_rounds": 0}
    rounds.measure_case([peer], model, shapes.Case(1), **sizes, seconds=0)
    assert rounds.row(peer, model, shapes.Case(1))["rounds"] == 6


def test_before_a_round_counts_both_kinds_have_run(model: Any) -> None:
    import peer_stand_ins
    import rounds
    import shapes

    class Noting(peer_stand_ins.Counting):
        def decode(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
            asked.append((new_tokens, how))
            return super().decode(how, prompts, new_tokens)

    asked: list[tuple[int, str]] = []
    sizes = {"prompt_tokens": 4, "new_tokens": 3, "rounds": 9, "memory_rounds": 0}
    rounds.measure_case([rounds.Timed(Here(Noting()))], model, shapes.Case(1), **sizes)
    every = [asked[n : n + 5] for n in range(0, len(asked), 5)]
    for of_round in every:
        assert {*of_round[:2]} == {(2, "unpatched"), (2, "steered")}
        assert sorted(of_round[2:]) == [(3, "steered"), (3, "unpatched"), (3, "unpatched")]
    # Neither is always the first, of those that warm up and of those that are timed.
    assert {each[0] for each in every} == {(2, "unpatched"), (2, "steered")}
    assert {each[2] for each in every} == {(3, "unpatched"), (3, "steered")}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux is asked for it")
def test_no_worker_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = f"""
import os, signal, threading, client
worker = client.Worker("Silent", {sys.executable!r}, "peer_stand_ins:Silent")
worker("load", law="add")
print(worker._process.pid, flush=True)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
worker("ask", rows=[None])
"""
    path = os.pathsep.join([str(PEERS), str(HERE)])
    done = subprocess.run(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    status = Path("/proc", done.stdout.strip(), "status")
    end = time.monotonic() + 5
    while status.exists() and "State:\tZ" not in status.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_llama_cpp_keeps_its_contexts_from_the_warm_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FakeContext] = []

    class FakeContext:
        def __init__(self, model: Any, batch: int, length: int) -> None:
            self.batch, self.length, self.vector = batch, length, None
            made.append(self)

        def steer(self, vector: Any, first: int, last: int) -> None:
            self.vector = vector

        def step(self, ids: Any) -> np.ndarray:
            return np.zeros((self.batch, 5))

        start = step

        def close(self) -> None:
            made.remove(self)

    fake = {"Context": FakeContext, "Model": lambda *_: None, "load_vectors": lambda files: files}
    monkeypatch.setitem(sys.modules, "llama", SimpleNamespace(**fake))
    import protocol
    from drivers import llama_cpp

    peer = llama_cpp.Peer()
    gguf = {"model": "m", "vectors": {"joy": "joy.gguf"}}
    with pytest.raises(protocol.Cannot, match="float32, not in bfloat16"):
        peer.open("m", "bfloat16", 1, "v", [1, 2], gguf)
    peer.open("m", "float32", 1, "v", [1, 2], gguf)
    peer.ask([{"joy": 0.4}] * 2)
    for how, new_tokens in (("unpatched", 2), ("steered", 2)):
        peer.decode(how, [[1, 2]] * 2, new_tokens)
    warm = list(made)
    for how in ("steered", "unpatched", "unpatched"):
        assert len(peer.decode(how, [[1, 2]] * 2, 6)["steps"]) == 5
    assert made == warm
    assert [context.vector for context in made] == [None, [("joy.gguf", 0.4)]]
    peer.decode("steered", [[1] * 300] * 2, 6)  # what does not fit has another one
    assert [context.length for context in made] == [512]


def test_who_does_not_answer_in_time_is_gone() -> None:
    import client

    worker = started("Silent", patience=0.5)
    for _ in range(2):
        with pytest.raises(client.Died, match="no answer in 0 s"):
            worker("ask", rows=[None])
    worker.close()


def test_a_driver_that_cannot_be_imported_says_so() -> None:
    import client

    worker = client.Worker("peer", sys.executable, "peer_that_is_not_there:Peer")
    with pytest.raises(client.Failed, match="No module named 'peer_that_is_not_there'"):
        worker("load", law="add")
    worker.close()


def test_cases_vary_one_thing_at_a_time() -> None:
    from shapes import Case, cases

    assert cases([1, 8], [0.5, 1], [1, 8, 32], ["add", "preserve"]) == [
        Case(1), Case(8), Case(8, share=0.5), Case(8, mixes=8),
        Case(1, law="preserve"), Case(8, law="preserve"),
    ]  # fmt: skip
    names = ["joy", "sadness", "fear"]
    rows = Case(8, 0.5, 1).rows(names)
    assert rows == [{"joy": 0.4}] * 4 + [None] * 4
    mixes = Case(32, mixes=32).rows(names)
    assert len({str(mix) for mix in mixes}) == 32
    assert all(0.2 <= next(iter(mix.values())) <= 0.4 for mix in mixes)


def test_a_config_of_transformers_5_is_read_by_4() -> None:
    import shapes

    written = '{"rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"}}'
    assert shapes.readable(written)["rope_theta"] == 100000.0


def test_no_steered_layer_has_a_zero_vector(model: Any) -> None:
    import shapes

    from emokernel.demo.models import load_vectors

    for name, layers in shapes.LAYERS.items():
        vectors = load_vectors(name)
        table = shapes.filled(vectors, layers)
        assert next(iter(table)) == "joy"
        for emotion, rows in table.items():
            assert rows[list(layers)].any(-1).all()
            kept = vectors[emotion].any(-1)
            assert (rows[kept] == vectors[emotion][kept]).all()


def test_the_whole_run_with_a_peer_that_is_not_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import run

    run.main(
        [
            *("--environments", str(tmp_path), "--output", str(tmp_path), "--models", "embedded"),
            *("--peers", "plain-hook", "emokernel", "repeng", "--batch-sizes", "2"),
            *("--mixes", "1", "2", "--laws", "add", "--rounds", "1", "--memory-rounds", "1"),
            *("--new-tokens", "3", "--threads", "1"),
        ]
    )  # fmt: skip
    (path,) = tmp_path.glob("peers-*.jsonl")
    rows = read(path)
    assert [row["peer"] for row in rows if row["row"] == "check"] == ["plain-hook", "emokernel"]
    timed = [row for row in rows if row["row"] == "case"]
    assert len(timed) == 2 * 3  # one mix, half steered, two mixes
    assert all(len(row["token_ms"]["steered"]) == 1 for row in timed)
    assert path.with_suffix(".png").stat().st_size > 1000
    text = path.with_suffix(".md").read_text()
    assert "- repeng: not installed: make " in text
    assert "| emokernel | too few rounds to tell" in text
    assert "## embedded: milliseconds of a token, unpatched" in text
    assert text.strip() in capsys.readouterr().out


def test_a_case_that_is_interrupted_keeps_its_rounds(model: Any) -> None:
    import peer_stand_ins
    import rounds
    import shapes

    class Interrupted(peer_stand_ins.Counting):
        made = 0

        def decode(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
            self.made += 1
            if self.made == 5 * 4 + 2:  # behind a round to warm up and three
                raise KeyboardInterrupt
            return super().decode(how, prompts, new_tokens)

    peer = rounds.Timed(Here(Interrupted()))
    with pytest.raises(KeyboardInterrupt):
        rounds.measure_case(
            [peer], model, shapes.Case(1), prompt_tokens=4, new_tokens=3, rounds=9, memory_rounds=0
        )
    assert rounds.row(peer, model, shapes.Case(1))["rounds"] == 3


def test_the_picture_has_no_dot_where_no_difference_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import picture
    from matplotlib.figure import Figure

    case = {"row": "case", "model": "embedded", "batch": 1, "share": 1, "mixes": 1, "law": "add"}
    rows = [
        {**case, "peer": "seen", "token_seen": True, "added_ms_per_layer": [0.2, 0.1, 0.3]},
        {**case, "peer": "unseen", "token_seen": False, "added_ms_per_layer": [0.1, -0.1, 0.2]},
    ]
    drawn: list[Figure] = []
    monkeypatch.setattr(picture, "save_figure", lambda figure, path: drawn.append(figure))
    picture.draw(rows, tmp_path / "picture.png")
    axes = drawn[0].axes[0]
    dots = [point for line in axes.lines if line.get_marker() == "o" for point in line.get_xdata()]
    assert dots == [200]
    assert len(axes.collections) == 2  # an interval for both
