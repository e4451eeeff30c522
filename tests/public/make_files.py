"""Made the files in `files`, once: what is public is that later versions read those of this one.

PYTHONPATH=.:tests python tests/public/make_files.py
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from public.stand_in import Counting, Watched, calibration, evaluation, extraction, some_vectors
from public.surface import commands, documents, imports, references

import emokernel
from emokernel.lab.report import write_report

HERE = Path(__file__).parent
FILES = HERE / "files"
MACHINE = ("machine", "versions", "seconds")
# What scripts that report bugs import, documented or not.
OF_SCRIPTS = {
    ("emokernel.calibrate", "Bounds"),
    ("emokernel.calibrate", "calibrate"),
    ("emokernel.demo.model", "load_model"),
    ("emokernel.demo.vectors", "load_vectors"),
    ("emokernel.lab.extract.prompts", "Conditioning"),
}
TORN = '{"key": "torn'


def interrupted(run: Callable[[], object]) -> None:
    """Run until its judge or its model stops it."""
    with suppress(KeyboardInterrupt):
        run()
        raise AssertionError("nothing stopped it")


def excerpt(value: Any) -> Any:
    """The first of every list, without what is of the machine."""
    if isinstance(value, dict):
        return {key: excerpt(each) for key, each in value.items() if key not in MACHINE}
    return [excerpt(each) for each in value[:1]] if isinstance(value, list) else value


def freeze_names() -> None:
    """Names and options."""
    texts = [document.read_text("utf-8") for document in documents()]
    names = {
        "all": emokernel.__all__,
        "imports": sorted(OF_SCRIPTS.union(*map(imports, texts))),
        "references": sorted(set().union(*map(references, texts))),
    }
    write(HERE / "names.json", names)
    write(HERE / "options.json", commands())


def write(path: Path, content: Any) -> None:
    """As JSON."""
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def main() -> None:
    freeze_names()
    vectors, folder = some_vectors(), FILES / "vectors"
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a format cannot hold
        for name in ("all.safetensors", "all.npz", "all.pt"):
            vectors.save(folder / name)
        for name in ("gguf", "json", "npy"):
            vectors.save(folder / name, format=name)

    interrupted(lambda: calibration(FILES / "calibrate.jsonl", Counting(limit=200)))
    interrupted(lambda: evaluation(FILES / "evaluate", Counting(limit=50)))
    for journal in (FILES / "calibrate.jsonl", FILES / "evaluate" / "generations.jsonl"):
        with journal.open("a") as file:
            file.write(TORN)
    interrupted(lambda: extraction(FILES / "extract", lambda model: Watched(model, limit=2)))

    with tempfile.TemporaryDirectory() as scratch:
        done = calibration(None, Counting())
        done.vectors.save(FILES / "vectors" / "calibrated.safetensors")
        done.save_rows(Path(scratch) / "frontier.jsonl")
        lines = (Path(scratch) / "frontier.jsonl").read_text().splitlines(keepends=True)
        (FILES / "frontier.jsonl").write_text("".join(lines[::40]))
        results = evaluation(Path(scratch) / "evaluate", Counting())
        write_report(Path(scratch) / "report", results)
        figures = json.loads((Path(scratch) / "report" / "results.json").read_text("utf-8"))
        write(FILES / "results.json", excerpt(figures))


if __name__ == "__main__":
    main()
