"""Vectors ``[layers, width]`` of a .npy file, written by a program's own functions.

Request: environment, rows, folder, and of saklas ours, a GGUF file whose layers it is to read and
save. Answers the version and the names of the files.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

request = json.load(sys.stdin)
folder, rows = Path(request["folder"]), torch.from_numpy(np.load(request["rows"]))
before = set(folder.rglob("*"))


def saklas() -> None:
    from saklas.core.profile import Profile

    profile = Profile(dict(enumerate(rows)))
    profile.to_gguf(folder / "joy.gguf", model_hint="llama")
    theirs = Profile.load(request["ours"])
    saved = {str(layer): theirs.weight_at(layer).numpy() for layer in theirs.layers}
    np.savez(request["output"], **saved)


def steerkit() -> None:
    from steerkit.gguf_export import export_probe_to_gguf
    from steerkit.probe import Probe

    probe = Probe(
        {"logistic": rows[3]}, {"logistic": 0.0}, 3, {}, "model", "resid_post",
        "blocks.3.hook_resid_post", len(rows),
    )  # fmt: skip
    export_probe_to_gguf(probe, folder / "joy.gguf")
    probe.save(folder / "probe.safetensors")


def hidden_directions() -> None:
    from hidden_directions.import_vector import import_to_pt

    import_to_pt(rows, folder / "joy.pt")


def steering_vectors() -> None:
    from steering_vectors import SteeringVector

    torch.save(SteeringVector(dict(enumerate(rows))), folder / "joy.pt")


def persona_vectors() -> None:
    from persona_vectors.steering import save_steering_vector

    told = {"suggested_alpha": 1.0, "persona_id": "joy", "layer": 3, "model_id": "model",
            "n_qa_pairs": 1, "hidden_size": rows.shape[1]}  # fmt: skip
    save_steering_vector({"steering_vector": rows[3][None, None], **told}, folder)


def repsteer() -> None:
    from repsteer.artifacts.base import ArtifactMetadata, DirectionArtifact

    DirectionArtifact(ArtifactMetadata(model_id="model"), rows[3]).save(str(folder))


try:
    globals()[request["environment"].replace("-", "_")]()
except ImportError as error:  # an optional package of the program
    print(json.dumps({"lacks": str(error)}))
    sys.exit()
new = [path.name for path in folder.rglob("*") if path not in before and path.is_file()]
print(json.dumps({"version": version(request["environment"]), "files": sorted(new)}))
