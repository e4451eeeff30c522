"""The operations as torch sees them: schemas, fakes, compiled graphs, gradients, loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from row_cases import EPS, make

from emokernel.ops import available, cpu, schemas, select
from emokernel.ops.cpu import BACKEND

ops = torch.ops.emokernel
NAMES = [schema.partition("(")[0] for schema in schemas.SCHEMAS]


def arguments(name: str, dtype: torch.dtype = torch.float32) -> tuple[tuple, dict]:
    """(args, kwargs) of a good call."""
    case = make(5, 12, dtype)
    rows = (case.x,) if name.startswith("steer") else (case.x, case.residual)
    norm = (case.weight, EPS, 0) if "rms_norm" in name else ()
    outs = {"normed", "y"} if norm else {"out"}
    given = {key: torch.empty_like(case.x) for key in outs} if name.endswith("_out") else {}
    return (*rows, *norm, *case.tables), given


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str) -> None:
    args, given = arguments(name)
    torch.library.opcheck(getattr(ops, name).default, args, given)


@pytest.mark.parametrize("name", NAMES)
def test_fakes_match(name: str) -> None:
    """Shapes, dtypes, strides and number of results, for a contiguous and a strided input."""
    for transform in (lambda t: t, lambda t: torch.stack([t, t], 1)[:, 0]):
        args, given = arguments(name, torch.bfloat16)
        args = (transform(args[0]), *args[1:])
        real = getattr(ops, name)(*args, **given)
        meta = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in args]
        fake = getattr(ops, name)(*meta, **{k: v.to("meta") for k, v in given.items()})
        flat = lambda out: [out] if isinstance(out, torch.Tensor) else list(out or ())  # noqa: E731
        assert [(t.shape, t.dtype, t.stride()) for t in flat(real)] == [
            (t.shape, t.dtype, t.stride()) for t in flat(fake)
        ]


def test_traces_without_a_break() -> None:
    case = make(6, 16)

    def block(x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        normed, y = BACKEND.add_steer_rms_norm(x, residual, case.weight, EPS, 0, *case.tables)
        BACKEND.add_steer_(normed, y, *case.tables)
        return normed

    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(case.x, case.residual), block(case.x, case.residual))


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("_out")])
def test_gradients_are_refused_rather_than_cut(name: str) -> None:
    args, _ = arguments(name)
    args = (args[0].requires_grad_(), *args[1:])
    with pytest.raises(RuntimeError, match="the cpu backend has no gradient"):
        getattr(BACKEND, name)(*args)
    with torch.no_grad():
        getattr(BACKEND, name)(*args)


def test_loading_again_is_harmless() -> None:
    assert cpu._load() is None
    torch.ops.load_library(str(cpu.LIBRARY))
    test_opcheck("steer")


def test_reasons_for_being_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu, "LIBRARY", tmp_path / "libemokernel.so")
    assert "is not built: build it with `pip install" in cpu._load()
    (tmp_path / "libemokernel.so").write_bytes(b"not a library")
    assert "does not load with torch" in cpu._load()
    assert "invalid ELF header" in cpu._load() or "too short" in cpu._load()


def test_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    assert select("cpu") is BACKEND
    assert available("cpu")["cpu"] is None
    assert "cpu tensors only" in available("meta")["cpu"]
    monkeypatch.setenv("EMOKERNEL_BACKEND", "reference")
    assert select("cpu").name == "reference"
    monkeypatch.setattr(cpu, "_REASON", "it is broken")
    with pytest.raises(RuntimeError, match="backend 'cpu' cannot run on cpu: it is broken"):
        select("cpu", "cpu")


def test_description() -> None:
    about = cpu.describe()
    assert about["isa"] in about["isas_supported"]
    assert set(about["isas_supported"]) <= set(about["isas_built"])
    assert about["threads"] == torch.get_num_threads()
