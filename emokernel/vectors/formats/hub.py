"""Emotion vectors from a repository of the Hugging Face Hub, or a local folder."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from os import PathLike
from pathlib import Path, PurePosixPath

from emokernel.errors import EmokernelError
from emokernel.vectors.formats import FORMATS, format_by_ending

# Beside vectors a repository may hold a model; the names of its weights are fixed by transformers.
_WEIGHTS = ("model", "pytorch_model", "adapter_model", "training_args", "optimizer", "scheduler")


def located(
    repo_id: str | PathLike[str],
    filename: str | None,
    revision: str | None,
    token: str | bool | None,
) -> tuple[Path, dict[str, dict[str, str]]]:
    """(Where the vectors of `EmotionVectors.from_pretrained` lie, what their provenance says)."""
    local = Path(repo_id).is_dir()
    folder = Path(repo_id) if local else _download(str(repo_id), filename, revision, token)
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    path = folder / choose(files, filename, str(repo_id))
    source = {"repository": str(repo_id), "commit": folder.name, "file": path.name}
    return path, {} if local else {"hub": source}


def choose(files: Iterable[str], filename: str | None, where: str) -> str:
    """``filename``, or the one file or folder of vectors among ``files``; "." is the folder itself.

    A folder counts as one where each emotion has a file of its own. JSON files are never guessed,
    since repositories hold them for other ends. EmokernelError if there is none, or several.
    """
    files = [file for file in sorted(files) if "/." not in f"/{file}"]  # nothing hidden
    if filename is not None:
        chosen = filename.rstrip("/")
        if chosen not in files and not _inside(files, chosen):
            near = get_close_matches(filename, files, n=1)
            hint = f"; did you mean {near[0]}?" if near else ": name one of its files or folders"
            raise EmokernelError(f"{where} has no {filename}{hint}")
        return chosen
    sets: dict[tuple[str, str], list[str]] = {}
    for file in files:
        format = format_by_ending(Path(file))
        weights = Path(file).stem.split("-")[0].split(".")[0] in _WEIGHTS
        if format is None or format == "json" or weights:
            continue
        place = str(PurePosixPath(file).parent) if FORMATS[format].file_per_emotion else file
        sets.setdefault((format, place), []).append(file)
    candidates = sorted(
        members[0] if len(members) == 1 else place for (_, place), members in sets.items()
    )
    if len(candidates) != 1:
        what = f"several: {_listed(candidates)}" if candidates else f"none: {_listed(files)}"
        raise EmokernelError(f"{where} should hold one file of vectors and has {what}; name yours")
    return candidates[0]


def _inside(files: Iterable[str], folder: str) -> list[str]:
    return [file for file in files if str(PurePosixPath(file).parent) == folder]


def _listed(files: list[str]) -> str:
    more = [f"and {len(files) - 10} more"] if len(files) > 10 else []
    return ", ".join(files[:10] + more) or "no files"


def _download(
    repo_id: str, filename: str | None, revision: str | None, token: str | bool | None
) -> Path:
    """The folder of a commit in the local cache, with the chosen file or folder in it.

    Where the Hub cannot be reached, what was downloaded before serves a ``filename`` that is said.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        if filename is None:
            files = HfApi(token=token).list_repo_files(repo_id, revision=revision)
            chosen = choose(files, None, repo_id)
            wanted = _inside(files, chosen) or [chosen]
        else:
            wanted = [filename.rstrip("/"), f"{filename.rstrip('/')}/*"]
        folder = snapshot_download(repo_id, revision=revision, token=token, allow_patterns=wanted)
    except EmokernelError:
        raise
    except Exception as error:  # the errors of the Hub and of the network have no common base
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise EmokernelError(f"cannot load {repo_id!r} from the Hub: {reason}") from error
    return Path(folder)
