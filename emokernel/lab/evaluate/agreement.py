"""How far two judges agree on the same texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from emokernel.extras import need
from emokernel.lab.evaluate.consistency import Points, rows_of, unit
from emokernel.lab.evaluate.results import JudgeAgreement

Tops = Sequence[str | None]


def agreement(
    judges: tuple[str, str],
    tops: tuple[Tops, Tops],
    cosines: tuple[Sequence[float], Sequence[float]],
    points: tuple[Points, Points],
) -> JudgeAgreement:
    """What two judges make of the same texts: their top labels, cosines and points of labels.

    ``equal`` is of all texts; a judge that has not got the other's label can never agree on it.
    ``kappa`` (Cohen 1960) is of the texts on which both judges chose a label that both have, so
    that it compares judgements and not vocabularies. Empty answers (None) are in neither.
    NaN for what is not defined: without a text that counts, for kappa where all labels are the
    same, for the correlation where one judge's cosines are. ValueError unless all are of as many
    texts.
    """
    first, second = tops
    if len({len(each) for each in (*tops, *cosines)}) > 1:
        raise ValueError("two judges can be compared on the same texts only")
    written = [(a, b) for a, b in zip(first, second, strict=True) if None not in (a, b)]
    shared = points[0].keys() & points[1].keys()
    rows = [unit(rows_of(top, table)) for top, table in zip(tops, points, strict=True)]
    placed = rows[0].any(1) & rows[1].any(1)
    # Cosine of an angle of less than 45 degrees.
    near = (rows[0] * rows[1]).sum(1)[placed] > math.cos(math.pi / 4)
    return JudgeAgreement(
        judges=judges,
        texts=len(first),
        equal=sum(a == b for a, b in written) / len(written) if written else math.nan,
        kappa=_kappa([pair for pair in written if shared.issuperset(pair)]),
        cosine_correlation=_correlation(*cosines),
        within_45=float(near.mean()) if len(near) else math.nan,
    )


def _kappa(pairs: Sequence[tuple[str, str]]) -> float:
    if len({label for pair in pairs for label in pair}) < 2:
        return math.nan
    return float(need("sklearn.metrics").cohen_kappa_score(*zip(*pairs, strict=True)))


def _correlation(first: Sequence[float], second: Sequence[float]) -> float:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(need("scipy.stats").pearsonr(first, second).statistic)
