"""Emotion vectors from a repository of the Hugging Face Hub, or a local folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from glob import escape
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
    folder = Path(repo_id)
    if folder.is_dir():
        every = (path for path in folder.rglob("*") if path.is_file())
        files = [path.relative_to(folder).as_posix() for path in every]
        return folder / choose(files, filename, str(repo_id)), {}
    commit, path = _download(str(repo_id), filename, revision, token)
    return path, {"hub": {"repository": str(repo_id), "commit": commit, "file": path.name}}


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
) -> tuple[str, Path]:
    """(The commit, where the chosen file or folder lies in the local cache).

    Where the Hub cannot be reached, a file that is said and was downloaded before serves.
    """
    from huggingface_hub import HfApi, errors, snapshot_download

    advice = {
        errors.GatedRepoError: "access to it must be granted: ask on its page, then pass token=",
        errors.RepositoryNotFoundError: (
            "there is none, or it is private: correct the id or pass token="
        ),
        errors.RevisionNotFoundError: f"no revision {revision!r}: name a branch, tag or commit",
        errors.HFValidationError: "that is no folder here and no repository id: pass user/name",
    }
    try:
        info = HfApi(token=token).model_info(repo_id, revision=revision)
        files, commit = [file.rfilename for file in info.siblings or ()], str(info.sha)
        chosen = choose(files, filename, repo_id)
        wanted = [escape(file) for file in _inside(files, chosen) or [chosen]]
        folder = snapshot_download(repo_id, revision=commit, token=token, allow_patterns=wanted)
    except EmokernelError:
        raise
    except Exception as error:  # the errors of the Hub and of the network have no common base
        reason = next((advice[kind] for kind in advice if isinstance(error, kind)), None)
        if reason is None:
            first = " ".join(str(error).split())[:200] or type(error).__name__
            reason = f"the Hub cannot be reached ({first})"
            if cached := _cached(repo_id, filename, revision):
                warnings.warn(f"{reason}: {filename} is what was downloaded before", stacklevel=4)
                return cached
        raise EmokernelError(f"cannot load {repo_id!r}: {reason}") from error
    return commit, Path(folder) / chosen


def _cached(repo_id: str, filename: str | None, revision: str | None) -> tuple[str, Path] | None:
    """(Commit, path) of a file that was downloaded before; of a folder some may lack."""
    from huggingface_hub import try_to_load_from_cache

    path = filename and try_to_load_from_cache(repo_id, filename, revision=revision)
    if not filename or not isinstance(path, str):
        return None
    return Path(path).parents[len(PurePosixPath(filename).parts) - 1].name, Path(path)
