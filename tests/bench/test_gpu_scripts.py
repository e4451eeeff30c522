"""The GPU benchmarks from end to end on the CPU: tiny shapes, other backends, the same path."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import gpu_decode
import gpu_ops
import pytest
import torch
from gpu_cases import DTYPES, LAWS, Case, Pool, Tables, Variants
from gpu_goals import DECODE, EAGER, HOST, KERNEL
from gpu_plots import plot_decode, plot_kernels
from gpu_timing import Budget

from emokernel import bench
from emokernel.ops import schemas

ROOT = Path(__file__).resolve().parents[2]


def results(folder: Path) -> list[dict]:
    (path,) = folder.glob("gpu-*.jsonl")
    return bench.read(path, last_run=False)


@pytest.fixture(scope="module")
def ops() -> ModuleType:
    return gpu_ops


@pytest.fixture(scope="module")
def decode() -> ModuleType:
    return gpu_decode


def test_operations(ops: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ["--device", "cpu", "--smoke", "--compile-budget", "0", "--output", str(tmp_path)]
    assert ops.main(options) == 0
    rows = results(tmp_path)
    assert not [row for row in rows if "error" in row]
    assert {row["operation"] for row in rows if row["benchmark"] == KERNEL} == set(
        schemas.OPERATIONS
    )
    measured = [row for row in rows if "microseconds" in row]
    assert {row["benchmark"] for row in measured} == {KERNEL, HOST, EAGER}
    assert {"copy", "cpu_k0", "cpu_k1", "cpu_k8", "reference_k3", "hook"} <= {
        row["variant"] for row in measured
    }
    (compiled,) = [row for row in rows if row["variant"] == "compiled"]
    assert compiled["not_run"] == "the budget of 0 s was spent"
    one = next(row for row in measured if row["variant"] == "cpu_k1" and row["benchmark"] == KERNEL)
    assert {"copy", "cpu_k0"} <= one["others_over_this"].keys()
    assert "above_unsteered_us" in one
    assert "not measured" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_what_the_budget_does_not_reach_is_recorded(ops: ModuleType, tmp_path: Path) -> None:
    ops.main(["--device", "cpu", "--smoke", "--budget", "0", "--output", str(tmp_path)])
    rows = results(tmp_path)
    assert {row["not_run"] for row in rows} == {"the budget of 0 s was spent"}
    assert {row["benchmark"] for row in rows} == {KERNEL, HOST, EAGER}
    expected = {(case.operation, case.rows, case.d) for case in ops.cases(smoke=True)}
    found = {
        (row["operation"], row["rows"], row["d"]) for row in rows if row["benchmark"] == KERNEL
    }
    assert found == expected
    assert not list(tmp_path.glob("*.png"))


def test_a_run_that_is_stopped_keeps_what_it_has(
    ops: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops.Benchmark, "eager", lambda *_: ops._stop(15, None))
    with pytest.raises(SystemExit):
        ops.main(["--device", "cpu", "--smoke", "--output", str(tmp_path)])
    rows = results(tmp_path)
    assert any("microseconds" in row for row in rows)
    assert {row.get("not_run") for row in rows} == {None, "the run ended early"}


def test_one_shape_that_fails_is_recorded(
    ops: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("launch failed")

    monkeypatch.setattr(Variants, "hook", fail)
    options = ["--device", "cpu", "--smoke", "--compile-budget", "0", "--output", str(tmp_path)]
    assert ops.main(options) == 0
    failed = [row for row in results(tmp_path) if "error" in row]
    assert {row["error"] for row in failed} == {"RuntimeError: launch failed"}
    assert any(row["benchmark"] == EAGER for row in failed)
    assert any(row["variant"] == "hook" for row in failed)


def test_full_grid(ops: ModuleType) -> None:
    """Every operation at every shape, the shapes of the goals first, none twice."""
    cases = ops.cases(smoke=False)
    assert [(case.rows, case.d) for case in cases[:2]] == [(8192, 4096), (8192, 8192)]
    shapes = {(rows, d) for rows in ops.ROWS for d in ops.D}
    for name in schemas.OPERATIONS:
        found = [
            (case.rows, case.d)
            for case in cases
            if (case.operation, case.dtype, case.law) == (name, "bf16", "preserve")
        ]
        assert len(found) == len(shapes) == 54
        assert set(found) == shapes
    rivals = {(case.rows, case.d) for case in cases if case.rivals}
    assert {(rows, d) for rows in ops.ROWS for d in (4096, 8192)} <= rivals


def test_warming_covers_every_kernel(ops: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, found = torch.device("cpu"), []
    error = ops._warm(cpu, Case("", 1, 64))  # Triton cannot run here
    assert error
    assert "\n" not in error
    monkeypatch.setattr(ops, "_warm", lambda _, case: found.append(case))
    for worker in range(3):
        assert ops.warm(cpu, 3, worker) == 0
    assert {case.d for case in found if not case.operation} == set(ops.D)
    assert {case.dtype for case in found} == set(DTYPES)
    compiled = [case for case in found if case.operation]
    assert sorted(map(repr, compiled)) == sorted(repr(c) for c in ops.cases(False) if c.rivals)


def test_sets_exceed_the_cache_and_fit_the_pool() -> None:
    l2 = 60 * 2**20
    for rows, d in ((1, 1024), (256, 4096), (8192, 16384)):
        case = Case("add_steer_rms_norm", rows, d)
        sets = case.sets(l2)
        assert sets == 256 or sets * case.bytes >= 4 * l2
        assert case.calls(sets) % sets == 0
        assert case.calls(sets, kernels=16) >= 4
    cases = [Case("steer", 3, 8), Case("add_steer_rms_norm", 2, 8)]
    pool = Pool(Pool.elements(cases, 0), torch.bfloat16, torch.device("cpu"))
    for case in cases:
        for call in pool.copy(case, case.sets(0)):
            call()


@pytest.mark.parametrize("operation", schemas.OPERATIONS)
@pytest.mark.parametrize("law", LAWS)
def test_variants_compute_the_same(operation: str, law: str) -> None:
    """What is timed is the operation: the backends agree, and steering changes the rows."""
    case = Case(operation, 5, 64, "fp32", law)
    device = torch.device("cpu")
    pool = Pool(Pool.elements([case], 0), DTYPES[case.dtype], device)
    variants = Variants(case, pool, Tables(case.d, DTYPES[case.dtype], LAWS[law], device), 2)
    found = {}
    for backend in ("cpu", "reference"):
        for components in (0, 1, 8):
            pool.target.fill_(float("nan"))
            for call in variants.emokernel(backend, components):
                call()
            used = torch.stack(variants._written)
            assert used.isfinite().all()
            found[backend, components] = used.clone()
    for components in (0, 1, 8):
        torch.testing.assert_close(found["cpu", components], found["reference", components])
    assert not torch.equal(found["cpu", 0], found["cpu", 1])
    assert not torch.equal(found["cpu", 1], found["cpu", 8])


def test_compiled_rival_computes_the_same() -> None:
    case = Case("add_steer_rms_norm", 3, 64, "fp32")
    device = torch.device("cpu")
    pool = Pool(Pool.elements([case], 0), torch.float32, device)
    tables = Tables(64, torch.float32, LAWS["preserve"], device)
    variants = Variants(case, pool, tables, 2)
    with pytest.MonkeyPatch.context() as patched, torch.no_grad():
        patched.setattr(torch, "compile", lambda function, dynamic: function)
        normed, y = variants.compiled()[1]()
        variants.emokernel("cpu", 1)[1]()
    torch.testing.assert_close(variants._written[1][0], normed)
    torch.testing.assert_close(variants._written[1][1], y)


def test_decode(decode: ModuleType, tmp_path: Path) -> None:
    assert decode.main(["--device", "cpu", "--smoke", "--output", str(tmp_path)]) == 0
    rows = results(tmp_path)
    assert len(rows) == 2 * 2 * 2 * 4  # models, batches, modes, variants
    assert all(row["benchmark"] == DECODE and row["ms_per_step"] > 0 for row in rows)
    for row in rows:
        assert row["graph_bits_of_eager"]
        assert (row["variant"] == "unpatched") == (row["logits_against_unpatched"] == 0)
    assert len(list(tmp_path.glob("*-decode.png"))) == 1


def test_decode_steps_repeat(decode: ModuleType) -> None:
    """The static cache is set back: every step gives the same logits."""
    model = decode.random_model(decode.configurations(True)["llama-3-8b"], torch.device("cpu"))
    with torch.inference_mode():
        step = decode.Step(model, batch=2, context=8)
        first = step().clone()
        for _ in range(20):  # more than the cache could hold otherwise
            again = step()
        assert torch.equal(first, again)
        tokens = torch.cat([step._prompt, step._token], dim=1)
        whole = model(input_ids=tokens).logits[:, -1]
    assert decode.difference(first, whole) < 2e-2


def test_decode_budget_and_capture_errors(
    decode: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[dict] = []
    decode.run(torch.device("cpu"), True, Budget(0), rows)
    assert len(rows) == 32
    assert {row["not_run"] for row in rows} == {"the budget of 0 s was spent"}

    def fail(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(decode.Decoding, "_capture", fail)
    model = decode.random_model(decode.configurations(True)["qwen2.5-1.5b"], torch.device("cpu"))
    models, errors = decode.variants(model, ("cpu", "cuda"))
    rounds = {"eager": 1, "graph": 1}
    rows = decode.compare("tiny", models, errors, 1, torch.device("cpu"), rounds)
    for row in rows:
        assert ("error" in row) == (row["mode"] == "graph" or row["variant"] == "emokernel_cuda")
    assert "not permitted" in next(row["error"] for row in rows if row["mode"] == "graph")
    assert decode.table(rows)
    assert plot_decode(bench.append(tmp_path, "gpu", rows))


def test_no_plots_of_nothing(tmp_path: Path) -> None:
    path = bench.append(tmp_path, "gpu", [{"benchmark": KERNEL, "not_run": "x", "operation": ""}])
    assert plot_kernels(path) == []
    assert plot_decode(path) == []


def asked_for(script: str) -> list[list[str]]:
    """The words behind every Python of gpu.sh, up to what the shell fills in."""
    text = re.sub(r"#.*|\\\n", "", script)
    found = []
    for line in re.findall(r'"\$python" ([^;|>)\n]*)', text):
        words = [word.strip('"') for word in line.split()]
        known = [word for word in words if not word.startswith(("$", "&"))]
        found.append(known[:1] if known[0] == "-c" else known)
    return found


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The project in another folder, which takes the results."""
    root = tmp_path / "project"
    (root / "benchmarks").mkdir(parents=True)
    for path in (ROOT / "benchmarks").glob("gpu*.*"):
        shutil.copy(path, root / "benchmarks")
    for name in ("emokernel", "tests", "csrc", "pyproject.toml"):
        (root / name).symlink_to(ROOT / name)
    return root


def test_the_whole_script_with_a_stand_in_for_the_gpu(elsewhere: Path, tmp_path: Path) -> None:
    """Every stage of gpu.sh: what needs no GPU runs, and all of it starts with all its options."""
    programs, out, started = (tmp_path / name for name in ("programs", "out", "started"))
    programs.mkdir()
    stand_in = Path(__file__).with_name("gpu_stand_in.py")
    program(programs / "python", f'exec {sys.executable} {stand_in} "$@"')
    tool = (
        f'echo "[\\"$2\\"]" >>{started}\n'
        'while [ "${1#--}" != "$1" ]; do shift 2; done; echo "=== ERROR SUMMARY: 0"; exec "$@"'
    )
    program(programs / "compute-sanitizer", tool)
    done = subprocess.run(
        ["bash", str(elsewhere / "benchmarks" / "gpu.sh")],
        capture_output=True, text=True,
        env={
            "PATH": f"{programs}:/usr/bin:/bin", "PYTHON": str(programs / "python"),
            "OUT": str(out), "HOME": str(tmp_path), "TORCHDYNAMO_DISABLE": "1",
            "EMOKERNEL_GPU_PATIENCE": "9", "EMOKERNEL_GPU_JOBS": "2", "OMP_NUM_THREADS": "1",
            "STARTED": str(started),
        },
    )  # fmt: skip
    logs = {path.stem.removeprefix("gpu-"): path.read_text() for path in out.glob("gpu-*.log")}
    assert done.returncode == 0, done.stdout + done.stderr
    stages = ["build", "backends", "tests", "memcheck", "racecheck", "warm", "ops", "decode"]
    assert sorted(logs) == sorted([*stages, "summary"])
    for name in stages:
        assert f"{name:<12} exit 0 " in logs["summary"], logs[name]
    starts = [json.loads(line) for line in started.read_text().splitlines()]
    script = (ROOT / "benchmarks/gpu.sh").read_text()
    for words in asked_for(script):
        assert any(set(words) <= set(start) for start in starts), words
    assert {tool for tool in ("memcheck", "racecheck") if [tool] in starts} == set(
        re.findall(r"sanitize (\w+) \"", script)
    )
    assert len([start for start in starts if start == ["tests/gpu/sanitize.py"]]) == 2
    (tested,) = [start for start in starts if start[:2] == ["-m", "pytest"]]
    tested = [each for each in tested if each.startswith("tests/")]
    assert len(tested) == 4
    assert all((ROOT / each).exists() for each in tested)
    assert "tests/gpu/test_launches.py" in logs["tests"]
    assert "every kernel ran" in logs["memcheck"]
    assert "Triton 64" in logs["warm"]
    assert re.search(r"add_steer_rms_norm 4 x 64 .*: \d+\.\d s", logs["warm"])
    assert not done.stderr
    assert {row["benchmark"] for row in results(out)} == {KERNEL, HOST, EAGER, DECODE}
    assert not [row for row in results(out) if "error" in row]
    assert len(list(out.glob("gpu-*.png"))) == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_without_a_gpu(ops: ModuleType, decode: ModuleType, tmp_path: Path) -> None:
    for module in (ops, decode):
        with pytest.raises(SystemExit, match="no GPU"):
            module.main(["--output", str(tmp_path)])
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks/gpu.sh")],
        capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable,
                                             "OUT": str(tmp_path)}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no GPU" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
