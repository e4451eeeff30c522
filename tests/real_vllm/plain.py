"""vLLM without the plugin, in a process of its own: `python plain.py ASKED ANSWERED`.

ASKED is a JSON list of jobs, ANSWERED becomes a list of their answers; see `plain_texts`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from real_vllm.cases import Case, Text
from real_vllm.engine import Engine


def plain_texts(jobs: Sequence[dict[str, Any]], scratch: Path) -> list[list[list[Text]]]:
    """For each job the texts of its batches, where the plugin is not even loaded.

    A job is {"folder": str, "options": of the engine, "batches": [[prompt]], "steps": int,
    "logits": how many}.
    """
    asked, answered = scratch / "asked.json", scratch / "answered.json"
    asked.write_text(json.dumps(jobs), "utf-8")
    tests = str(Path(__file__).parent.parent)
    environment = {**os.environ, "VLLM_PLUGINS": "", "PYTHONPATH": tests}
    subprocess.run(
        [sys.executable, __file__, asked, answered], check=True, env=environment, cwd=scratch
    )
    answers = json.loads(answered.read_text("utf-8"))
    return [[[Text(**text) for text in batch] for batch in batches] for batches in answers]


def _answer(job: dict[str, Any]) -> list[list[dict[str, Any]]]:
    engine = Engine(Path(job["folder"]), **job["options"])
    batches = [
        engine.texts([Case(prompt) for prompt in batch], job["steps"], logits=job["logits"])
        for batch in job["batches"]
    ]
    engine.close()
    return [[vars(text) for text in batch] for batch in batches]


if __name__ == "__main__":
    answers = [_answer(job) for job in json.loads(Path(sys.argv[1]).read_text("utf-8"))]
    assert not any(name.partition("_")[0].startswith("emokernel") for name in sys.modules)
    Path(sys.argv[2]).write_text(json.dumps(answers), "utf-8")
