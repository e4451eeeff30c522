"""`emokernel serve` as an operator starts it: a process of its own, asked over the network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
KEY = "a-key-of-the-benchmark"
# Metrics that are 0 where nobody asks anything.
IDLE_AT_ZERO = (
    "emokernel_slots_in_use", "emokernel_requests_running", "emokernel_requests_waiting",
)  # fmt: skip
# Words alone, since the embedded model knows no roles, and the beginning of an answer.
_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} They all{% endif %}"
)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def embedded_for_chats(folder: Path, *, endless: bool = False) -> list[str]:
    """MODEL and options that serve the embedded model with a chat template, from a new ``folder``.

    It has none of its own, so that a server refuses it chats. ``endless``: texts end where their
    tokens are used up, and nowhere else: at padding, which the model never writes.
    """
    from emokernel.demo.model import model_folder
    from emokernel.demo.vectors import VECTORS_PATH

    shutil.copytree(model_folder(), folder)
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    if endless:
        names = {"config": "eos_token_id", "generation_config": "eos_token_id"}
        for name, field in {**names, "tokenizer_config": "eos_token"}.items():
            path = folder / f"{name}.json"
            told = json.loads(path.read_text())
            path.write_text(json.dumps(told | {field: told[field.replace("eos", "pad")]}))
    return [str(folder), "--vectors", str(VECTORS_PATH), "--dtype", "float32"]


class ServerProcess:
    """A server on a free port of this machine, from `__enter__` to `__exit__`.

    ``arguments``: those of `emokernel serve`, MODEL first. ``key``: the API key, None for none.
    ``threads``: of torch, if not as many as it takes by itself.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        key: str | None = KEY,
        threads: int | None = None,
        timeout: float = 300.0,
    ) -> None:
        self.arguments, self.key, self._timeout = list(arguments), key, timeout
        self._threads = threads
        self.url = f"http://127.0.0.1:{free_port()}"
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.ready_after = float("nan")

    def __enter__(self) -> ServerProcess:
        port = self.url.rpartition(":")[2]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
        )
        if self.key:
            environment["EMOKERNEL_API_KEY"] = self.key
        if self._threads:
            environment["OMP_NUM_THREADS"] = str(self._threads)
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        command = [sys.executable, "-m", "emokernel.cli", "serve", *self.arguments, "--port", port]
        self._began = time.monotonic()
        self.process = psutil.Popen(
            command, env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            self._wait()
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.is_running():
            self.stop()
        self._log.close()

    def _wait(self) -> None:
        """Until it is ready; RuntimeError with what it printed if it ends before or takes long."""
        while time.monotonic() - self._began < self._timeout:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    self.ready_after = time.monotonic() - self._began
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"{' '.join(self.arguments)} is not ready:\n{self.log()}")

    def log(self) -> str:
        """The last lines that it printed."""
        return "\n".join(Path(self._log.name).read_text(errors="replace").splitlines()[-40:])

    def memory(self) -> int:
        """Bytes that it holds in memory, with all processes that it started."""
        held = self.process.memory_info().rss
        for child in self.process.children(recursive=True):
            try:
                held += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return held

    def metrics(self) -> dict[str, float]:
        """What it counts, by name, summed over all labels."""
        answer = httpx.get(f"{self.url}/metrics", headers=self.headers, timeout=30)
        answer.raise_for_status()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def settled(self, within: float = 30.0) -> dict[str, float]:
        """What it counts as soon as nothing runs, waits or holds a slot; at the latest then."""
        end = time.monotonic() + within
        while True:
            found = self.metrics()
            busy = any(found[name] for name in IDLE_AT_ZERO)
            if not busy or time.monotonic() > end:
                return found
            time.sleep(0.2)

    def stop(self, within: float = 60.0) -> int:
        """Ask it to end, by SIGTERM; its exit status. Killed if it has not ended ``within``."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            self.process.kill()
            return self.process.wait(10)
