"""Numerics as a benchmark: emokernel's operations and its peers' formulas, against fp64."""

from emokernel.bench.numerics.formula import DTYPES, Formula, Given
from emokernel.bench.numerics.judge import PEERS, judged
from emokernel.bench.numerics.ours import ours
from emokernel.bench.numerics.rows import made_rows, model_rows

__all__ = ["DTYPES", "PEERS", "Formula", "Given", "judged", "made_rows", "model_rows", "ours"]
