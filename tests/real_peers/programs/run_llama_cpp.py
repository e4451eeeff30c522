"""llama.cpp: logits of a GGUF model under control vectors that its own loader reads.

Request: model, prompts, exact, cases {name: {files [[path, strength]], first, last}}. Saves the
logits of each case, and as "plain" those of none; refused: the names that the loader refuses.
"""

from __future__ import annotations

import json
import sys

import llama
import llama_cpp
import numpy as np

request = json.load(sys.stdin)
prompts = request["prompts"]
model = llama.Model(request["model"], 2, request["exact"])
context = llama.Context(model, len(prompts), len(prompts[0]))
arrays, refused = {"plain": context.start(prompts)}, []
for name, case in request["cases"].items():
    rows = llama.load_vectors([(path, strength) for path, strength in case["files"]])
    if rows is None:
        refused.append(name)
        continue
    context.steer(rows, case.get("first", 1), case.get("last"))
    arrays[name] = context.start(prompts)
np.savez(request["output"], **arrays)
print(json.dumps({"version": llama_cpp.__version__, "refused": refused}))
