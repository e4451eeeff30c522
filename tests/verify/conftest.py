"""A small model to verify, and kernels that break one promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from word_model import word_tokenizer

from emokernel.ops import Backend, select
from emokernel.patch import placed
from emokernel.verify import Subject, verify

Change = Callable[[Callable, tuple], Any]
FUSED = ("add_steer_rms_norm", "add_steer_layer_norm")


@pytest.fixture(autouse=True)
def _nothing_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def subject(tiny, vectors) -> Subject:
    """A tiny Llama with four emotions; compiled code is run as it was traced."""
    return Subject(tiny(), word_tokenizer(), vectors(), compile_backend="eager")


@pytest.fixture(scope="session")
def folder(tiny, vectors, tmp_path_factory) -> Path:
    """A saved model, its tokenizer and, beside it, its vectors."""
    path = tmp_path_factory.mktemp("verify") / "tiny"
    tiny().save_pretrained(path)
    word_tokenizer().save_pretrained(path)
    vectors().save(path / "vectors.safetensors")
    return path


@pytest.fixture
def breaking(monkeypatch) -> Callable[..., None]:
    """``breaking(change, *operations)``: ``change(operation, arguments)`` runs instead of each."""

    def breaking_kernels(change: Change, *operations: str) -> None:
        def broken(device: torch.device, name: str | None = None) -> Backend:
            backend = select(device, name)
            changed = {each: changing(getattr(backend, each)) for each in operations}
            return replace(backend, **changed)

        def changing(run: Callable) -> Callable:
            return lambda *given: change(run, given)

        monkeypatch.setattr(placed, "select", broken)

    return breaking_kernels


def failed(subject: Subject, *skip: str) -> list[str]:
    """The names of the checks that fail."""
    return [finding.name for finding in verify(subject, skip) if finding.ok is False]
