"""repeng: logits of a model under control vectors that it reads, and vectors that it makes.

Request: model, prompts, cases {name: {files [[path, coefficient]], normalize}}, and perhaps
copied [source, target] and trained {texts [[positive, negative]], tokenizer, target}. Saves the
logits of each case, "plain" of none, "generated" tokens of the last case, and "trained N".
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from repeng import ControlModel, ControlVector, DatasetEntry
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


def opened(folder: str):
    """The model; transformers 4 seeks the base of rotary positions where 5 does not write it."""
    config = json.loads(Path(folder, "config.json").read_text())
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    with tempfile.TemporaryDirectory() as place:
        Path(place, "config.json").write_text(json.dumps(config))
        Path(place, "model.safetensors").symlink_to(Path(folder, "model.safetensors"))
        loaded = AutoModelForCausalLM.from_pretrained(place, torch_dtype=torch.float32)
    return loaded.eval()


def logits(model) -> np.ndarray:
    """``[prompts, vocabulary]``, each prompt alone: repeng takes no batch of prompts."""
    with torch.no_grad():
        each = [model(torch.tensor([ids])).logits[0, -1] for ids in request["prompts"]]
    return torch.stack(each).numpy()


request = json.load(sys.stdin)
plain = opened(request["model"])
arrays = {"plain": logits(plain)}
if "trained" in request:
    told = request["trained"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=told["tokenizer"])
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    vector = ControlVector.train(plain, tokenizer, [DatasetEntry(*pair) for pair in told["texts"]])
    vector.export_gguf(told["target"])
    for layer, row in vector.directions.items():
        arrays[f"trained {layer}"] = row
if "copied" in request:
    source, target = request["copied"]
    ControlVector.import_gguf(source).export_gguf(target)
for name, case in request["cases"].items():
    parts = [ControlVector.import_gguf(path) * weight for path, weight in case["files"]]
    vector = parts[0]
    for part in parts[1:]:
        vector = vector + part
    model = ControlModel(plain, sorted(vector.directions))
    model.set_control(vector, 1.0, normalize=case.get("normalize", False))
    arrays[name] = logits(model)
    ids = torch.tensor(request["prompts"][:1])
    mask = torch.ones_like(ids)
    made = model.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False)
    arrays[f"text of {name}"] = made[0, ids.shape[1] :].numpy()
    model.unwrap()
np.savez(request["output"], **arrays)
print(json.dumps({"version": version("repeng"), "transformers": version("transformers")}))
