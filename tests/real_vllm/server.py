"""`vllm serve` in a process of its own, as people start it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

NAME = "served"
# What every request sends; only a server that was started with --api-key asks for it.
KEY = "a-key-of-tests"
HEADERS = {"Authorization": f"Bearer {KEY}"}
# The embedded model has no chat template; this one says what the last message says.
TEMPLATE = "{{ bos_token }}{{ messages[-1]['content'] }}"
OPTIONS = (
    "--served-model-name", NAME, "--chat-template", TEMPLATE, "--dtype", "float32",
    "--enforce-eager", "--block-size", "32", "--max-num-seqs", "64", "--seed", "0",
)  # fmt: skip


class Server:
    """One server; ``with Server(...) as server`` waits until it answers, and ends it."""

    def __init__(
        self,
        folder: Path,
        log: Path,
        emotions: dict[str, Any] | None = None,
        *options: str,
        **environment: str,
    ) -> None:
        """``emotions``: what stands under "emokernel" in --additional-config."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self._log = f"http://127.0.0.1:{self.port}", log
        command = [Path(sys.executable).with_name("vllm"), "serve", folder, *OPTIONS, *options]
        if emotions is not None:
            command += ["--additional-config", json.dumps({"emokernel": emotions})]
        variables = {**os.environ, "VLLM_LOGGING_LEVEL": "WARNING", **environment}
        del variables["VLLM_ENABLE_V1_MULTIPROCESSING"]  # the engine core is another process
        with log.open("w") as out:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self.port)],
                stdout=out, stderr=subprocess.STDOUT, env=variables, cwd=log.parent,
                start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Server:
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ended(self, seconds: float = 180.0) -> int:
        """The exit code of a server that ends by itself; TimeoutExpired if it does not."""
        try:
            return self._process.wait(seconds)
        finally:
            self.stop()

    def output(self) -> str:
        """All that it has written so far."""
        return self._log.read_text("utf-8")

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, answer) of a GET, or of a POST of ``body`` as JSON."""
        answer = httpx.request(
            "GET" if body is None else "POST", self.url + path, timeout=120,
            content=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json", **HEADERS},
        )  # fmt: skip
        return answer.status_code, answer.json() if answer.content else None

    def text(self, path: str) -> str:
        return httpx.get(self.url + path, timeout=120).text

    def engine_core(self) -> psutil.Process:
        """The process that computes; ProcessLookupError if there is none."""
        for child in psutil.Process(self._process.pid).children(recursive=True):
            if "EngineCore" in child.name() or "EngineCore" in " ".join(child.cmdline()):
                return child
        raise ProcessLookupError(f"{self.url} has no engine core")

    def stop(self) -> None:
        """End it and all it has started."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()

    def _wait_until_ready(self, seconds: float = 240.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            code = self._process.poll()
            if code is not None:
                raise RuntimeError(f"it ended by itself, code {code}:\n{self.output()[-4000:]}")
            try:
                if self.ask("/health")[0] == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.5)
        raise TimeoutError(f"not ready after {seconds} s:\n{self.output()[-4000:]}")
