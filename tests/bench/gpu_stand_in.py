"""Stands in for the Python of a machine with a GPU, in a run of benchmarks/gpu.sh.

What gpu.sh asks of a GPU is answered, benchmarks run tiny and on the CPU, tests are only collected,
nothing is installed or built. pip fails, so that what takes its place starts too. Every start is a
line of the file STARTED.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn


def python(*arguments: str) -> NoReturn:
    os.execv(sys.executable, [sys.executable, *arguments])


def pretend_a_gpu() -> None:
    import torch

    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.cuda.get_device_name = lambda *_: "a stand-in"
    torch.cuda.synchronize = lambda *_: None


def pretend_backends() -> None:
    from emokernel import ops

    real = ops.available
    ops.available = lambda device: dict.fromkeys(real(device))


def sanitized(script: str) -> None:
    """The rows of the script by the backend for CPUs."""
    sys.path.insert(0, str(Path(script).resolve().parents[1]))
    import targets

    pretend_a_gpu()
    real = targets.target
    targets.target = lambda name: real({"cuda": "cpu"}[name])
    sys.argv = [script]
    runpy.run_path(script, run_name="__main__")


def main() -> None:
    with Path(os.environ["STARTED"]).open("a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\n")
    match sys.argv[1:]:
        case ["-c", "import xdist"]:
            pass
        case ["-c", code]:
            if "emokernel" in code:
                pretend_backends()
            else:  # the real one takes seconds to import
                sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace())
            pretend_a_gpu()
            exec(code, {"__name__": "__main__"})
        case ["-m", "pip", "install", *_]:
            raise SystemExit("nothing is installed")
        case ["setup.py", "build_ext", "--inplace"]:
            print("nothing is built")
        case ["-m", "pytest", *options, "-n", "2"]:
            # Two folders are so large that collecting them takes long: that they are there will do.
            left = [option for option in options if option not in ("tests/ops", "tests/patch")]
            assert len(left) == len(options) - 2
            python("-m", "pytest", "--collect-only", *left)
        case ["tests/gpu/sanitize.py" as script]:
            sanitized(script)
        case [("benchmarks/gpu_ops.py" | "benchmarks/gpu_decode.py") as script, *options]:
            python(script, *options, "--device", "cpu", "--smoke")
        case unknown:
            raise SystemExit(f"gpu.sh runs what nothing stands in for: {unknown}")


if __name__ == "__main__":
    main()
