"""Where on the circumplex the emotions of a model really lie."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from emokernel.affect.coordinates import Coordinates
from emokernel.affect.regression import (
    combinations,
    compact,
    flat,
    left_out,
    locate,
    penalty,
    placed,
)
from emokernel.errors import EmokernelError
from emokernel.vectors import EmotionVectors


def positions_of(
    vectors: EmotionVectors,
    coordinates: Coordinates,
    layer_weights: Sequence[float] | None = None,
    ridge: float | None = None,
) -> dict[str, tuple[float, float]]:
    """(valence, arousal) of each emotion as the vectors have it.

    Base and axes (`emokernel.affect.regression`) are fitted to all other emotions that have
    coordinates; the position is the least-squares solution of
    ``vector - base = valence * V + arousal * A`` over all layers together. An emotion thus never
    decides where it is found itself. One without coordinates is located by the fit to all that have
    some. One without which the others lie on one line cannot be located and is left out.

    The unit is the table's: one factor for all, which gives the positions of the emotions with
    coordinates the root mean square radius that the table gives them. A position may lie outside
    the circle.

    ``layer_weights`` ``[L]``: what each layer is multiplied with before, such as the profile of a
    calibration; otherwise the layers are as they are. ``ridge``: as in `Axes`.

    EmokernelError if the emotions with coordinates are fewer than 3 or all on one line, if their
    vectors are all the same in the weighted layers, or if none can be located.
    """
    known, points = placed(vectors, coordinates)
    unknown = [name for name in vectors.names if name not in known]
    everything = compact(flat(vectors, (*known, *unknown), layer_weights))
    own, others = everything[: len(known)], everything[len(known) :]
    ridge = penalty(points, own, ridge)
    places = left_out(points, own, ridge)
    located = np.isfinite(places).all(axis=1)
    if not located.any():
        raise EmokernelError(
            f"no emotion can be located by the others: {', '.join(known)} are the only ones with"
            f" coordinates in the table {coordinates.name!r}; at least 4 are needed"
        )
    fit = combinations(points, ridge) @ own
    located_at = dict(zip(np.array(known)[located], places[located], strict=True))
    located_at |= {name: locate(fit, vector) for name, vector in zip(unknown, others, strict=True)}
    size = math.sqrt(np.sum(places[located] ** 2))
    unit = math.sqrt(np.sum(points[located] ** 2)) / size if size else 1.0
    order = [name for name in vectors.names if name in located_at]
    return {name: tuple((located_at[name] * unit).tolist()) for name in order}
