"""The published formulas, what judges them, and that emokernel's rows are its real operations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emokernel.bench.decode import random_prompt
from emokernel.bench.numerics import PEERS, Given, judged, made_rows, ours
from emokernel.bench.numerics.faults import changed_rows, not_finite
from emokernel.bench.numerics.formula import (
    ADD,
    BATCH,
    BY_ROW,
    DTYPES,
    KEEPS_NORM,
    PRESERVE,
    RELATIVE,
    ROTATE,
    SHRINK,
    truth,
)
from emokernel.bench.numerics.judge import EXACT, _compare, compared
from emokernel.bench.numerics.rows import LayerRows, Rows, model_rows
from emokernel.bench.numerics.summary import standing, table
from emokernel.ops import cpu
from emokernel.vectors.calibration import Calibration

NAMED = {formula.name: formula for formula in PEERS}
WIDTH = 576


def given(dtype: torch.dtype, weight: float = 0.3) -> Given:
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(8, WIDTH, generator=generator)
    h[:, [3, 70]] *= 60
    x = 0.1 * torch.randn(8, WIDTH, generator=generator)
    vector = 0.7 * torch.randn(WIDTH, generator=generator)
    return Given(x.to(dtype), h.to(dtype), vector, weight)


@pytest.fixture(scope="module")
def few_rows() -> Rows:
    """The first of those that are made."""
    rows = made_rows()
    few = [layer.to(torch.float32, torch.arange(8)) for layer in rows.layers[:3]]
    return replace(rows, layers=tuple(few))


@pytest.fixture(scope="module")
def two_layers() -> Rows:
    """All rows of two of the layers that are made."""
    rows = made_rows()
    return replace(rows, layers=rows.layers[:2])


@pytest.mark.parametrize(
    ("formula", "dtype"),
    [(formula, dtype) for formula in PEERS for dtype in formula.dtypes],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_formula_is_its_law_up_to_a_few_roundings(formula, dtype):
    asked = given(dtype, 0.05 if formula.law in BY_ROW else 0.3)
    h = asked.x.double() + asked.residual.double()
    y = formula.apply(asked)
    assert y.dtype is dtype
    error = (y.double() - truth(formula.law, h, asked.vector, asked.weight)).norm(dim=-1)
    moved = (y.double() - h).norm(dim=-1)
    # llm-steer's eps of 1e-6 is part of its law in fp32.
    limit = 4 * torch.finfo(dtype).eps + (2e-6 if formula.name == "llm-steer" else 0)
    assert (error / h.norm(dim=-1)).max() < limit
    assert (moved > 8 * error).all()  # it does something


@pytest.mark.parametrize("formula", [f for f in PEERS if f.masks], ids=lambda formula: formula.name)
def test_a_mask_leaves_the_others_and_steers_as_ever(formula):
    asked = given(torch.float32)
    on = torch.arange(8) % 3 == 0
    y, alone = formula.apply(replace(asked, on=on)), formula.apply(asked)
    torch.testing.assert_close(y[~on], asked.h[~on], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(y[on], alone[on], rtol=1e-6, atol=1e-6)


def test_the_laws_in_fp64():
    h = torch.tensor([[3.0, 4.0], [-3.0, 4.0]], dtype=torch.double)
    e = torch.tensor([2.0, 0.0])
    assert truth(ADD, h, e, 0.5).tolist() == [[4, 4], [-2, 4]]
    norms = truth(PRESERVE, h, e, 0.5).norm(dim=-1)
    torch.testing.assert_close(norms, torch.full((2,), 5.0).double())
    shrunk = truth(SHRINK, h, e, 0.5)
    torch.testing.assert_close(shrunk[0].norm().item(), 5.0)
    assert shrunk[1].tolist() == [-2, 4]
    assert torch.equal(truth(BATCH, h, e, 0.5), truth(PRESERVE, h, e, 0.5))
    assert torch.equal(truth(BATCH, h[1:], e, 0.5), truth(ADD, h[1:], e, 0.5))
    assert truth(RELATIVE, h, e, 0.5).tolist() == [[5.5, 4], [-0.5, 4]]
    whole = truth(ROTATE, h, e, 1.0)
    torch.testing.assert_close(whole, torch.tensor([[5.0, 0.0]] * 2).double(), atol=1e-9, rtol=0)
    half = truth(ROTATE, h[:1], e, 0.5)
    torch.testing.assert_close(half, torch.tensor([[20**0.5, 5**0.5]]).double())


def test_known_roundings_of_the_halves():
    """EasySteer rounds |h| to bf16 in its eager tier, and not in its captured one."""
    generator = torch.Generator().manual_seed(0)
    h, vector = torch.randn(2, 4096, generator=generator).double()
    h = (64.24 * h / h.norm()).bfloat16()[None]  # of a norm that bf16 holds as 64
    vector -= (vector @ h[0].double()) / h.double().square().sum() * h[0].double()
    vector *= (66**2 - 64.24**2) ** 0.5 / vector.norm()  # |t| = 66, which it holds
    asked = Given(torch.zeros_like(h), h, vector.float(), 1.0)

    def norm_error(name):
        return float(NAMED[name].apply(asked).double().norm() / h.double().norm()) - 1

    assert norm_error("EasySteer eager, normalize, summed") == pytest.approx(
        64 / 64.24 - 1, abs=7e-4
    )
    assert norm_error("EasySteer in_graph, normalize") == pytest.approx(0, abs=7e-4)


def test_emokernel_is_at_the_limit_and_what_is_sloppy_shows(few_rows, monkeypatch):
    """Its rows come from the operations: one that rounds its norms is told as it is."""

    def sloppy(x, residual, *tables):
        y = own.add_steer(x, residual, *tables)
        return (y.float() * (1 + 2 ** torch.tensor(-8.0))).to(y.dtype)

    own = cpu.BACKEND
    good = {
        (row["law"], row["formula"]): row
        for row in judged([*ours(), NAMED["repeng, normalize"]], few_rows, torch.bfloat16)
    }
    mine, limit = good[PRESERVE, "emokernel cpu"], good[PRESERVE, EXACT]
    for key in ("norm_error_mean", "vector_error_mean", "drift_mean", "norm_drift_mean"):
        assert mine[key] <= 1.1 * limit[key]
    assert good[PRESERVE, "repeng, normalize"]["emokernel_is"]["norm_error"] == "better"
    monkeypatch.setattr(cpu, "BACKEND", replace(own, add_steer=sloppy))
    bad = judged([*ours(), NAMED["repeng, normalize"]], few_rows, torch.bfloat16)
    of_cpu = {row["law"]: row for row in bad if row["formula"] == "emokernel cpu"}
    assert of_cpu[PRESERVE]["norm_error_mean"] > 3 * mine["norm_error_mean"]
    assert of_cpu[PRESERVE]["norm_drift_mean"] > 2 * mine["norm_drift_mean"]
    (peer,) = (row for row in bad if row["formula"] == "repeng, normalize")
    assert peer["emokernel_is"]["norm_error"] == "worse"
    assert "emokernel is worse (1): repeng, normalize" in standing(bad)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_emokernel_keeps_edges_finite_and_rows_alone(dtype):
    for formula in ours():
        assert not_finite(formula, dtype) == {}, formula
        assert changed_rows(formula, dtype) == [], formula


def test_edges_of_published_formulas_are_seen():
    fp16, bf16 = torch.float16, torch.bfloat16
    repeng = NAMED["repeng, normalize"]
    assert not_finite(repeng, fp16) == {
        "cancelled": "NaN", "1100 everywhere": "NaN", "largest element": "NaN",
    }  # fmt: skip
    assert {"zero", "1100 everywhere", "one inf"} <= set(changed_rows(repeng, fp16))
    assert not_finite(NAMED["repeng"], fp16) == {}
    in_graph = NAMED["EasySteer in_graph, normalize"]
    assert "one inf" in changed_rows(in_graph, bf16)  # 0 * NaN
    assert "ordinary" not in changed_rows(in_graph, bf16)
    assert changed_rows(NAMED["EasySteer eager, normalize"], bf16) == []
    assert changed_rows(NAMED["hotwire"], bf16) == []
    assert changed_rows(NAMED["steerkit"], bf16) is None
    refused = not_finite(NAMED["AISteer360, NormPreserving"], fp16)
    assert refused == {"largest element": "ValueError"}


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("repeng, normalize", 2.8, 3.4),  # both norms and the quotient in bf16
        ("CAST, OOI normalization", 3.0, 3.9),  # and the factor
        ("AISteer360, NormPreserving", 3.0, 3.9),
        ("EasySteer eager, normalize", 2.5, 3.1),  # norms rounded to bf16, the rest in fp32
        ("EasySteer in_graph, normalize", 1.5, 2.0),  # fp32, a difference of large numbers
        ("emokernel cpu", 0.9, 1.1),
        ("emokernel reference", 0.9, 1.1),
    ],
)
def test_where_a_formula_rounds_is_in_its_norm_error(two_layers, name, low, high):
    """In those of the exact law rounded once, bf16."""
    (formula,) = (f for f in (*PEERS, *ours()) if f.name == name and f.law in KEEPS_NORM)
    limit, row = judged([formula], two_layers, torch.bfloat16)
    assert low < row["norm_error_mean"] / limit["norm_error_mean"] < high


def test_ties_within_what_half_an_ulp_makes():
    assert _compare(1.0, 1.9, 1.0) == "equal"
    assert _compare(1.0, 2.1, 1.0) == "better"
    assert _compare(2.1, 1.0, 1.0) == "worse"
    assert _compare(1.0, None, 1.0) == "better"
    assert _compare(None, None, 1.0) == "equal"
    assert _compare(1.0, 1.24, 0.0) == "equal"
    assert _compare(1.26, 1.0, 0.0) == "worse"


def test_a_law_that_emokernel_has_not_is_compared_with_none(few_rows):
    named = [NAMED["steering-lite, spherical"], NAMED["AISteer360, NormPreserving"]]
    rows = judged([*ours(), *named], few_rows, torch.float32)
    spherical = rows[-1]
    assert spherical["formula"] == "steering-lite, spherical"
    assert "emokernel_is" not in spherical
    shrunk = next(row for row in rows if row["formula"] == "AISteer360, NormPreserving")
    assert shrunk["emokernel_is"].keys() == {"norm_error"}
    assert "steering-lite, spherical" in table(rows)
    assert compared(rows) is rows


def test_rows_out_of_range_are_left_out_and_a_refusal_is_told():
    h = torch.ones(3, 64)
    h[0] = 1e6  # no fp16
    h[1, 0] = 65504.0  # and t is none
    layer = LayerRows(torch.zeros(3, 64), h, torch.zeros(3, 64), 1e3 * torch.eye(64)[0], 1.0)
    rows = Rows("model", (layer,))
    refusing = NAMED["AISteer360, NormPreserving"]
    _, row = judged([refusing], rows, torch.float16)
    assert row["count"] == 2
    assert "NaN or Inf" in row["not_run"]
    assert "not run" not in table(judged([NAMED["repeng"]], rows, torch.float32))


@pytest.mark.parametrize("site", ["attention", "block"])
def test_rows_of_a_model_are_its_own(tiny, vectors, site):
    model, of_model = tiny(), vectors(site)
    strengths = {"preserve absolute": dict.fromkeys(of_model.names, 2.0)}
    profile = [0.0, *[0.5] * (of_model.num_layers - 1)]
    calibrated = replace_calibration(of_model, site, profile, strengths)
    with torch.no_grad():
        states = model(random_prompt(model, 4, 32), output_hidden_states=True).hidden_states
    rows, emotion = model_rows(model, calibrated)
    assert emotion == of_model.names[0]
    assert len(rows.layers) == of_model.num_layers - 1
    assert {layer.weight for layer in rows.layers} == {1.0}
    torch.testing.assert_close(rows.layers[0].vector, of_model[emotion][1].float())
    first, second = rows.layers[:2]
    assert not first.between.any()
    reached = first.x + first.residual + second.between
    torch.testing.assert_close(reached, second.residual)
    if site == "block":  # steered layers begin at 1; the first state is the embeddings'
        assert torch.equal(first.x + first.residual, states[2].flatten(0, 1))
    else:
        assert torch.equal(first.residual, states[1].flatten(0, 1))


def replace_calibration(vectors, site, profile, strengths):
    calibration = Calibration(
        site=site, profile=tuple(profile), law="preserve", dose="absolute", mapping="wheel",
        coordinates="russell", strengths=strengths, circle={},
    )  # fmt: skip
    return vectors.with_calibration(calibration)
