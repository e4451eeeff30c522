"""Tests on the real engine of vLLM, on the CPU: `make test-vllm`, in an environment of its own."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec

import pytest

if find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]
CACHE = tempfile.TemporaryDirectory(prefix="vllm-cache-")

# Said before vLLM is imported. Engines live in this process unless a test says otherwise, and find
# no graph that an earlier run compiled.
os.environ.update(
    HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", VLLM_LOGGING_LEVEL="ERROR",
    VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    VLLM_CACHE_ROOT=CACHE.name,
)  # fmt: skip


class Engines:
    """One engine at a time: the last one is kept for as long as tests ask for the same."""

    def __init__(self):
        self._key = self._engine = None

    def __call__(self, model, emotions=None, **options):
        """The engine of a `Model`, told these ``emotions`` (see `Model.emotions`)."""
        from real_vllm.engine import Engine

        key = (model.folder, emotions, options)
        if key != self._key:
            self.close()
            self._engine = Engine(model.folder, emotions, **options)
            self._key = key
        return self._engine

    def close(self):
        if self._engine is not None:
            self._engine.close()
        self._key = self._engine = None


@pytest.fixture(scope="session")
def engines():
    made = Engines()
    yield made
    made.close()


@pytest.fixture(scope="session")
def server(engines, embedded, scratch):
    """`vllm serve` of the embedded model, for all tests over HTTP that leave it as it was.

    It has a key, and a judge that ships.
    """
    from real_vllm.server import KEY, Server

    engines.close()
    emotions = embedded.emotions(judge="embedded-evaluation")
    with Server(embedded.folder, scratch / "server.log", emotions, "--api-key", KEY) as started:
        yield started


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("vllm")


@pytest.fixture(scope="session")
def embedded(scratch):
    from real_vllm import models

    return models.embedded(scratch)


@pytest.fixture(scope="session")
def smollm2(scratch):
    from real_vllm import models

    return models.smollm2(scratch)
