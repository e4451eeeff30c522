"""Small emotion vectors, and files of them as other programs write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from emokernel import EmotionVectors
from emokernel.vectors.calibration import Calibration


def some_vectors(names=("joy",), layers=3, site="block") -> EmotionVectors:
    """Vectors that have all that vectors can have; layer 1 is zero."""
    generator = torch.Generator().manual_seed(1)
    tensor = torch.randn(layers, len(names), 6, generator=generator)
    tensor[1] = 0.0
    calibration = Calibration(
        site, [0.5] * layers, "preserve", "absolute", "wheel", "glasgow",
        {"preserve absolute": dict.fromkeys(names, 1.5)}, {}, {"judge": "some judge"},
    )  # fmt: skip
    return EmotionVectors(
        names, tensor, site, {"model": "some model", "counts": {"joy": 3}},
        {"auc_neutral": [[0.5] * len(names)] * layers}, calibration,
    )  # fmt: skip


def write_gguf(
    path: Path,
    directions: Mapping[str, np.ndarray],
    architecture: str = "controlvector",
    more: Mapping[str, str] | None = None,
) -> Path:
    """A file as repeng's ``export_gguf`` writes it, of ``{tensor name: array}``."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string(f"{architecture}.model_hint", "llama")
    writer.add_uint32(f"{architecture}.layer_count", len(directions))
    for key, text in (more or {}).items():
        writer.add_string(key, text)
    for name, array in directions.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def rows(layers: int = 3, width: int = 6) -> np.ndarray:
    """``[layers, width]`` fp32, no number twice."""
    return np.arange(layers * width, dtype=np.float32).reshape(layers, width) / 7 + 1


def foreign_files(folder: Path) -> dict[str, Path]:
    """One file of each foreign kind, all of the emotion joy."""
    values, torch_rows = rows(), torch.from_numpy(rows())
    np.savez(folder / "joy.npz", joy=values, anger=-values)
    torch.save({"joy": torch_rows, "anger": -torch_rows}, folder / "joy.pt")
    save_file(
        {"layer.0": torch_rows[:1], "layer.2": torch_rows[2:]}, folder / "joy.safetensors",
        metadata={
            "format": "emokernel.emotion_vectors", "format_version": "1", "site": "block",
            "names": json.dumps(["joy"]), "num_layers": "3", "hidden_size": "6",
            "provenance": "{}",
        },
    )  # fmt: skip
    for name, first in (("repeng", 1), ("easysteer", 0)):
        (folder / name).mkdir()
        directions = {f"direction.{layer}": values[layer] for layer in range(first, 3)}
        write_gguf(folder / name / "joy.gguf", directions)
    return {
        "repeng": folder / "repeng" / "joy.gguf",
        "easysteer": folder / "easysteer" / "joy.gguf",
        "named arrays": folder / "joy.npz",
        "named tensors": folder / "joy.pt",
        "version 1": folder / "joy.safetensors",
    }
