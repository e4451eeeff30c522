"""`emokernel bench --numerics`: how exactly the laws are computed, here and by other projects."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from emokernel.bench import append, machine_slug, now, versions
from emokernel.bench.numerics import DTYPES, PEERS, judged, made_rows, model_rows, ours
from emokernel.bench.numerics.summary import picture, standing, table
from emokernel.commands import models
from emokernel.commands.outputs import check_folder


def run_numerics(chosen: argparse.Namespace) -> int:
    """Compare, print, record and draw; always 0."""
    check_folder(chosen.output)
    given = models.given_vectors(chosen)
    if given is not None:
        models.check_fits(given, models.load_config(chosen), chosen.vectors)
    models.check_can_steer(chosen.device_map)
    model, _ = models.load_to_measure(chosen)
    vectors, origin = models.vectors_of(chosen, given, model)
    formulas = [*ours(model.device), *PEERS]
    rows, emotion = model_rows(model, vectors)
    name = Path(chosen.model).name
    about = {
        "model": chosen.model, "vectors": origin, "emotion": emotion, "site": vectors.site,
        "device": str(model.device), "captured_in": str(model.dtype).removeprefix("torch."),
    }  # fmt: skip
    print(
        f"{chosen.model} on {model.device}; vectors: {origin} ({emotion!r}, site {vectors.site!r});"
        f" torch {versions()['torch']}\n"
        "relative errors against fp64, means over rows; equal: apart by no more than the error of"
        " the exact law, rounded once, or by a quarter\n"
    )
    began, done, pictures = now(), [], []
    for source in (rows, made_rows()):
        own = []
        for dtype in DTYPES:
            found = judged(formulas, source, dtype)
            print(table(found), end="\n\n", flush=True)
            own += found
        what = name if source is rows else "made"
        slug = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")
        path = chosen.output / f"numerics-{slug}.png"
        chosen.output.mkdir(parents=True, exist_ok=True)
        count, width = own[0]["count"], own[0]["width"]
        picture(path, own, f"rows: {what}, {count} of width {width}; {machine_slug()}")
        pictures.append(path)
        done += [(about if source is rows else {}) | row for row in own]
    path = append(chosen.output, "numerics", done, began)
    print(standing(done))
    print(f"\nWrote {path}" + "".join(f", {each.name}" for each in pictures))
    return 0
