"""Emotion vectors from a repository of the Hugging Face Hub, or a local folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.vectors.formats import FORMATS, read
from emokernel.vectors.named_vectors import NamedVectors

# Beside vectors a repository may hold a model; the names of its weights are fixed by transformers.
_WEIGHTS = ("model", "pytorch_model", "adapter_model", "training_args", "optimizer", "scheduler")


def from_pretrained(
    repo_id: str | PathLike[str],
    filename: str | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    **options: Any,
) -> NamedVectors:
    """Read `EmotionVectors.from_pretrained`'s file; ``options`` are those of `formats.read`."""
    folder = Path(repo_id)
    if folder.is_dir():
        files = [
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        ]  # fmt: skip
        return read(folder / choose(files, filename, str(folder)), **options)
    repository, commit, path = _download(str(repo_id), filename, revision, token)
    vectors = read(path, **options)
    source = {"repository": repository, "commit": commit, "file": path.name}
    return replace(vectors, provenance={**vectors.provenance, "hub": source})


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
            hint = f"; did you mean {near[0]}?" if near else f": it holds {_listed(files)}"
            raise EmokernelError(f"{where} has no {filename}{hint}")
        return chosen
    sets: dict[tuple[str, str], list[str]] = {}
    for file in files:
        path, format = PurePosixPath(file), _format_of(PurePosixPath(file))
        if format:
            per_emotion = FORMATS[format].file_per_emotion
            sets.setdefault((format, str(path.parent if per_emotion else path)), []).append(file)
    candidates = sorted(
        members[0] if len(members) == 1 else place for (_, place), members in sets.items()
    )
    if len(candidates) != 1:
        what = f"several: {_listed(candidates)}" if candidates else f"none: {_listed(files)}"
        raise EmokernelError(f"{where} should hold one file of vectors and has {what}; name yours")
    return candidates[0]


def _inside(files: Iterable[str], folder: str) -> list[str]:
    return [file for file in files if str(PurePosixPath(file).parent) == folder]


def _format_of(file: PurePosixPath) -> str | None:
    """The format by the ending; None for JSON and for what holds the weights of a model."""
    for name, kind in FORMATS.items():
        if file.suffix.lower() in kind.endings and name != "json":
            return None if file.stem.split("-")[0].split(".")[0] in _WEIGHTS else name
    return None


def _listed(files: list[str]) -> str:
    shown = ", ".join(files[:10]) or "no files"
    return shown + (f" and {len(files) - 10} more" if len(files) > 10 else "")


def _download(
    repo_id: str, filename: str | None, revision: str | None, token: str | bool | None
) -> tuple[str, str, Path]:
    """(repository, commit, path of the file or folder in the local cache)."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    advice = {
        GatedRepoError: "access to it must be granted: ask on its page, then pass token=",
        RepositoryNotFoundError: "there is none, or it is private: correct the id or pass token=",
        RevisionNotFoundError: f"it has no revision {revision!r}: name a branch, tag or commit",
        HFValidationError: "that is no folder here and no repository id: pass user/name",
    }
    try:
        info = HfApi(token=token).repo_info(repo_id, revision=revision)
        files, commit = [file.rfilename for file in info.siblings or ()], info.sha
        chosen = choose(files, filename, repo_id)
        wanted = _inside(files, chosen) or [chosen]
        folder = snapshot_download(repo_id, revision=commit, token=token, allow_patterns=wanted)
    except EmokernelError:
        raise
    except Exception as error:  # the errors of the Hub and of the network have no common base
        kind = next((kind for kind in advice if isinstance(error, kind)), None)
        if kind is None and (cached := _cached(repo_id, filename, revision)):
            return repo_id, *cached
        reason = advice[kind] if kind else f"the Hub cannot be reached ({_first_line(error)})"
        raise EmokernelError(f"cannot load {repo_id!r}: {reason}") from error
    return repo_id, commit, Path(folder) / chosen


def _cached(repo_id: str, filename: str | None, revision: str | None) -> tuple[str, Path] | None:
    """(commit, path) of a file that was downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    if filename is None:
        return None
    path = try_to_load_from_cache(repo_id, filename, revision=revision)
    if not isinstance(path, str):
        return None
    commit = Path(path).parents[len(PurePosixPath(filename).parts) - 1].name
    return commit, Path(path)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
