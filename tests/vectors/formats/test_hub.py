"""Vectors from the Hub and from local folders; the Hub is played by a stand-in."""

from __future__ import annotations

from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from vectors_samples import some_vectors

from emokernel import EmokernelError, EmotionVectors
from emokernel.vectors.formats import write
from emokernel.vectors.formats.hub import choose

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository in a folder; ``hub.asked`` is what was asked of the Hub, ``hub.fail`` fails."""
    folder = tmp_path / "snapshot"
    folder.mkdir()
    state = SimpleNamespace(folder=folder, asked=[], fail=None)

    class Api:
        def __init__(self, token=None):
            state.asked.append(("token", token))

        def model_info(self, repo_id, revision=None):
            state.asked.append((repo_id, revision))
            if state.fail:
                raise state.fail
            files = [
                SimpleNamespace(rfilename=path.relative_to(folder).as_posix())
                for path in folder.rglob("*")
                if path.is_file()
            ]
            return SimpleNamespace(siblings=files, sha=COMMIT)

    def snapshot_download(repo_id, revision, token, allow_patterns):
        state.asked.append((repo_id, revision, token, sorted(allow_patterns)))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    return state


def test_the_one_file_is_found_and_the_commit_is_noted(hub):
    some_vectors().save(hub.folder / "joyful.safetensors")
    for other in ("model.safetensors", "model-00001-of-2.safetensors", "config.json", ".hidden.pt"):
        (hub.folder / other).write_text("{}")
    vectors = EmotionVectors.from_pretrained("user/repo", revision="main", token="secret")
    assert torch.equal(vectors.tensor, some_vectors().tensor)
    assert vectors.calibration == some_vectors().calibration
    expected = {"repository": "user/repo", "commit": COMMIT, "file": "joyful.safetensors"}
    assert vectors.provenance["hub"] == expected
    assert vectors.provenance["model"] == "some model"
    assert hub.asked == [
        ("token", "secret"), ("user/repo", "main"),
        ("user/repo", COMMIT, "secret", ["joyful.safetensors"]),
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.* cannot hold", "ignore:llama.cpp cannot steer")
def test_a_folder_with_a_file_per_emotion_is_downloaded_alone(hub):
    vectors = some_vectors(("anger", "joy"))
    write(vectors, hub.folder / "qwen", format="gguf")
    write(vectors, hub.folder / "json", format="json")
    found = EmotionVectors.from_pretrained("user/repo")
    assert found.names == ("anger", "joy")
    assert hub.asked[-1][-1] == ["qwen/anger.gguf", "qwen/joy.gguf"]
    found = EmotionVectors.from_pretrained("user/repo", "json/", site="block")
    assert (found.names, found.site) == (("anger", "joy"), "block")
    assert torch.equal(found.tensor, vectors.tensor)
    assert hub.asked[-1][-1] == ["json/anger.json", "json/joy.json"]


def refused(kind):
    return kind("no", response=SimpleNamespace(headers={}, request=None))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refused(GatedRepoError), "access to it must be granted"),
        (refused(RepositoryNotFoundError), "there is none, or it is private"),
        (refused(RevisionNotFoundError), "no revision 'v9'"),
        (HFValidationError("no"), "no folder here and no repository id"),
        (OSError("no route\nto  host"), r"the Hub cannot be reached \(no route to host\)$"),
        (ConnectionError("offline"), r"the Hub cannot be reached \(offline\)"),
    ],
)
def test_what_the_hub_refuses_is_one_error(hub, error, message):
    hub.fail = error
    with pytest.raises(EmokernelError, match=f"cannot load 'user/repo': .*{message}"):
        EmotionVectors.from_pretrained("user/repo", revision="v9")


def test_without_a_network_the_cache_is_read(hub, monkeypatch, tmp_path):
    hub.fail = ConnectionError("no route to host")
    path = tmp_path / "snapshots" / COMMIT / "a" / "joy.safetensors"
    path.parent.mkdir(parents=True)
    some_vectors().save(path)
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache",
        lambda repo_id, filename, revision: str(path) if filename == "a/joy.safetensors" else None,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"cannot be reached .*: a/joy\.safetensors is what was"):
        vectors = EmotionVectors.from_pretrained("user/repo", "a/joy.safetensors")
    assert vectors.provenance["hub"]["commit"] == COMMIT
    with pytest.raises(EmokernelError, match="cannot be reached"):
        EmotionVectors.from_pretrained("user/repo")


@pytest.mark.filterwarnings("ignore:.* cannot hold")
def test_what_is_said_is_chosen_from_what_the_repository_holds(hub):
    vectors = some_vectors(("anger", "joy"))
    write(vectors, hub.folder, format="npy")
    vectors.save(hub.folder / "x[1].npz")
    assert EmotionVectors.from_pretrained("user/repo", "x[1].npz").names == ("anger", "joy")
    assert hub.asked[-1][-1] == ["x[[]1].npz"]  # a pattern
    assert EmotionVectors.from_pretrained("user/repo", ".", format="npy").names == ("anger", "joy")
    assert hub.asked[-1][-1] == ["anger.npy", "joy.npy", "x[[]1].npz"]
    asked = len(hub.asked)
    with pytest.raises(EmokernelError, match=r"has no joi\.npy; did you mean joy\.npy"):
        EmotionVectors.from_pretrained("user/repo", "joi.npy")
    assert len(hub.asked) == asked + 2  # nothing was downloaded


def test_local_folders_are_read(tmp_path):
    some_vectors().save(tmp_path / "joy.npz")
    (tmp_path / "config.json").write_text("{}")
    vectors = EmotionVectors.from_pretrained(tmp_path)
    assert torch.equal(vectors.tensor, some_vectors().tensor)
    assert "hub" not in vectors.provenance
    with pytest.raises(EmokernelError, match=r"has no joi\.npz; did you mean joy\.npz"):
        EmotionVectors.from_pretrained(tmp_path, "joi.npz")


@pytest.mark.parametrize(
    ("files", "filename", "expected"),
    [
        (["a/b.pt", "config.json"], None, "a/b.pt"),
        (["joy.gguf", "anger.gguf"], None, "."),
        (["joy.gguf"], None, "joy.gguf"),
        (["v/joy.npy", "v/anger.npy", "README.md"], None, "v"),
        (["a.pt", "b.pt"], "b.pt", "b.pt"),
        (["v/joy.json"], "v", "v"),
        (["v/joy.npz", "v/.emokernel-1.npz"], None, "v/joy.npz"),
    ],
)
def test_the_file_is_chosen(files, filename, expected):
    assert choose(files, filename, "user/repo") == expected


@pytest.mark.parametrize(
    ("files", "filename", "message"),
    [
        ([], None, "has none: no files; name yours"),
        (["pytorch_model.bin", "tokenizer.json"], None, "has none: pytorch_model.bin, tokenizer"),
        (["a.pt", "b.npz"], None, "has several: a.pt, b.npz; name yours"),
        (["v/joy.gguf", "v/fear.gguf", "v/all.npz"], None, "has several: v, v/all.npz"),
        ([f"{n}.pt" for n in range(30)], None, "and 20 more; name yours"),
        (["a.pt"], "z/y", "user/repo has no z/y: it holds a.pt"),
    ],
)
def test_what_cannot_be_chosen_is_told(files, filename, message):
    with pytest.raises(EmokernelError, match=message):
        choose(files, filename, "user/repo")
