"""The errors of a formula against the law it aims at, evaluated in fp64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from emokernel.bench.numerics.engines import IN_ENGINES
from emokernel.bench.numerics.faults import changed_rows, not_finite
from emokernel.bench.numerics.formula import (
    BY_ROW,
    KEEPS_NORM,
    LAWS,
    PRESERVE,
    SOMETIMES,
    Formula,
    Given,
    truth,
)
from emokernel.bench.numerics.hooked import HOOKED
from emokernel.bench.numerics.rows import LayerRows, Rows

PEERS = (*HOOKED, *IN_ENGINES)
EXACT = "exact law, rounded once"
# What is compared, of each the mean over rows: key of the row of results -> in words.
COMPARED = {
    "norm_error": "norm",
    "vector_error": "vector",
    "drift": "drift",
    "norm_drift": "drift of norms",
}
# Rows are a sample: figures that are nearer than by a quarter are equal, too.
_ALIKE = 0.25
BETTER, EQUAL, WORSE = "better", "equal", "worse"


@dataclass(frozen=True)
class Error:
    """Relative errors of rows: the largest and the mean; infinite where a row is not finite."""

    largest: float
    mean: float

    @staticmethod
    def of(errors: Tensor) -> Error:
        """Of errors ``[rows]``, at least one."""
        if not errors.isfinite().all():
            return Error(math.inf, math.inf)
        return Error(float(errors.max()), float(errors.mean()))


def exact(law: str) -> Formula:
    """The law in fp64 of the rounded rows, rounded once: what no result in that dtype is below."""

    def apply(given: Given) -> Tensor:
        return truth(law, given.h.double(), given.vector, given.weight).to(given.dtype)

    return Formula(EXACT, law, "emokernel.bench.numerics.formula.truth", apply)


def _asked(layer: LayerRows, law: str) -> float:
    """The weight: of laws that count in norms or angles of the row, as far for the median row."""
    return layer.share if law in BY_ROW else layer.weight


def of_rows(formula: Formula, rows: Rows) -> dict[str, Error]:
    """Norm error, of laws that keep norms, and vector error, over the rows of all layers.

    Where a formula changes a summand, h is the unrounded sum, else the rounded one. Rows of zeros,
    and those for which the law means nothing, have no relative error and are left out.
    """
    norms, moves = [], []
    for layer in rows.layers:
        weight = _asked(layer, formula.law)
        given = Given(layer.x, layer.residual, layer.vector, weight)
        h = layer.x.double() + layer.residual.double() if formula.on_branch else given.h.double()
        wanted = truth(formula.law, h, layer.vector, weight)
        y = formula.apply(given).double()
        length = h.norm(dim=-1)
        there = (length > 0) & wanted.isfinite().all(-1) & ((wanted - h).norm(dim=-1) > 0)
        moves.append(((y - wanted).norm(dim=-1) / (wanted - h).norm(dim=-1))[there])
        if formula.law in SOMETIMES:
            there = there & ((wanted.norm(dim=-1) - length).abs() <= 1e-9 * length)
        if formula.law in KEEPS_NORM:
            norms.append(((y.norm(dim=-1) - length).abs() / length)[there])
    found = {"vector_error": Error.of(torch.cat(moves))}
    if norms and len(torch.cat(norms)):
        found["norm_error"] = Error.of(torch.cat(norms))
    return found


def of_depth(formula: Formula, rows: Rows) -> dict[str, Error]:
    """Drift: the law in every layer, and between them what the model itself adds, against fp64.

    The stream is rounded where the model rounds it, after every sum. Relative errors of the rows
    behind the last layer, and, of laws that keep norms, of their norms.
    """
    stream, reference = rows.layers[0].residual, rows.layers[0].residual.double()
    for layer in rows.layers:
        weight = _asked(layer, formula.law)
        residual = stream + layer.between
        stream = formula.apply(Given(layer.x, residual, layer.vector, weight))
        summed = reference + layer.between.double() + layer.x.double()
        reference = truth(formula.law, summed, layer.vector, weight)
    there = reference.isfinite().all(-1)
    y, reference = stream.double()[there], reference[there]
    length = reference.norm(dim=-1)
    found = {"drift": Error.of((y - reference).norm(dim=-1) / length)}
    if formula.law in KEEPS_NORM:
        found["norm_drift"] = Error.of((y.norm(dim=-1) - length).abs() / length)
    return found


def judged(formulas: Sequence[Formula], rows: Rows, dtype: torch.dtype) -> list[dict[str, Any]]:
    """A row of results for each of ``formulas``, emokernel's own first, then peers, in one dtype.

    Law by law; the first of a law is what no result of that dtype is below. A formula that refuses
    the rows has "not_run" instead of figures; a figure of a row that is not finite is None.
    """
    rounded = rows.to(dtype)
    chosen = [each for each in formulas if dtype in each.dtypes]
    in_order = []
    for law in LAWS:
        of_law = [each for each in chosen if each.law == law]
        in_order += [exact(law), *of_law] if of_law else []
    results = []
    for formula in in_order:
        result: dict[str, Any] = {
            "rows": rows.name, "dtype": str(dtype).removeprefix("torch."), "law": formula.law,
            "formula": formula.name, "source": formula.source, "on_branch": formula.on_branch,
            "layers": len(rounded.layers), "count": len(rounded.layers[0].x),
            "width": rounded.layers[0].x.shape[1],
        }  # fmt: skip
        try:
            errors = of_rows(formula, rounded) | of_depth(formula, rounded)
        except ValueError as refusal:
            errors = {}
            result["not_run"] = str(refusal)
        for key, error in errors.items():
            result |= {
                f"{key}_{name}": value if math.isfinite(value) else None
                for name, value in asdict(error).items()
            }
        if formula.name != EXACT:
            result["not_finite"] = not_finite(formula, dtype)
            result["changed_rows"] = changed_rows(formula, dtype)
        results.append(result)
    return compared(results)


def compared(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with "emokernel_is" in each peer's row: {figure: better, equal or worse}.

    Of each figure the means are compared. They are equal where they differ by no more than the
    exact law's own figure, which is what rounding each element by half an ulp at most makes of it,
    or by no more than a quarter.
    A peer of a law that emokernel has not is compared with none, but for the norm error where it
    keeps norms of some rows: of those, with `PRESERVE`. Edges (`faults`) are told beside and decide
    nothing: most of them are rare.
    """
    at = {(row["law"], row["formula"]): row for row in results}
    own: dict[str, dict] = {}
    for row in results:
        if row["formula"].startswith("emokernel "):
            own.setdefault(row["law"], row)
    for row in results:
        sometimes = row["law"] in SOMETIMES
        mine = own.get(PRESERVE if sometimes else row["law"])
        if row["formula"] == EXACT or row["formula"].startswith("emokernel ") or mine is None:
            continue
        floors = at[row["law"], EXACT]
        keys = ("norm_error",) if sometimes else COMPARED
        means = [f"{key}_mean" for key in keys if f"{key}_mean" in row.keys() & mine.keys()]
        row["emokernel_is"] = {
            mean.removesuffix("_mean"): _compare(mine[mean], row[mean], floors.get(mean) or 0)
            for mean in means
        }
        row["times_emokernel"] = {
            mean.removesuffix("_mean"): row[mean] / mine[mean]
            for mean in means
            if row[mean] and mine[mean]
        }
    return results


def _compare(mine: float | None, other: float | None, tie: float) -> str:
    mine, other = (math.inf if value is None else value for value in (mine, other))
    if mine == other or abs(mine - other) <= max(tie, _ALIKE * min(mine, other)):
        return EQUAL
    return BETTER if mine < other else WORSE
