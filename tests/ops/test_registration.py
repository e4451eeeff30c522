"""The operations as torch sees them: schemas, fakes, compiled graphs, gradients."""

from __future__ import annotations

import pytest
import torch
from row_cases import EPS, LAYER, fused
from targets import Target

from emokernel.ops import schemas
from emokernel.reference import Cast

NAMES = [schema.partition("(")[0] for schema in schemas.SCHEMAS]


def arguments(target: Target, name: str, dtype: torch.dtype = torch.float32) -> tuple[tuple, dict]:
    """(args, kwargs) of a good call."""
    case = target.make(5, 12, dtype)
    rows = (case.x,) if name == "steer" else (case.x, case.residual)
    norm = (case.weight, EPS, 0) if "rms_norm" in name else ()
    norm = (case.weight, case.bias, EPS) if "layer_norm" in name else norm
    out = name.endswith("_out")
    given = {key: torch.empty_like(case.x) for key in ("normed", "y")} if out else {}
    return (*rows, *norm, *case.tables), given


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(target: Target, name: str) -> None:
    args, given = arguments(target, name)
    torch.library.opcheck(getattr(target.ops, name).default, args, given)


@pytest.mark.parametrize("name", NAMES)
def test_fakes_match(target: Target, name: str) -> None:
    """Shapes, dtypes, strides and number of results, for a contiguous and a strided input."""
    operation = getattr(target.ops, name)
    strided = () if name == schemas.IN_PLACE else (lambda t: torch.stack([t, t], 1)[:, 0],)
    for transform in (lambda t: t, *strided):
        args, given = arguments(target, name, torch.bfloat16)
        args = (transform(args[0]), *args[1:])
        real = operation(*args, **given)
        meta = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in args]
        fake = operation(*meta, **{k: v.to("meta") for k, v in given.items()})
        flat = lambda out: [out] if isinstance(out, torch.Tensor) else list(out or ())  # noqa: E731
        assert [(t.shape, t.dtype, t.stride()) for t in flat(real)] == [
            (t.shape, t.dtype, t.stride()) for t in flat(fake)
        ]


@pytest.mark.parametrize("norm", [Cast.LLAMA, LAYER])
def test_traces_without_a_break(target: Target, norm: Cast | str) -> None:
    case = target.make(6, 16)

    def block() -> torch.Tensor:
        return target.backend.add_steer(*fused(target.backend, case, norm), *case.tables)

    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(), block())


@pytest.mark.parametrize("name", schemas.OPERATIONS)
def test_gradients_are_refused_rather_than_cut(target: Target, name: str) -> None:
    args, _ = arguments(target, name)
    args = (args[0].requires_grad_(), *args[1:])
    with pytest.raises(RuntimeError, match=f"the {target.backend.name} backend has no gradient"):
        getattr(target.backend, name)(*args)
    with torch.no_grad():
        getattr(target.backend, name)(*args)
