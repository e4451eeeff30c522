"""Install the browser that tests need; exit 1 and say why on stdout if it cannot be had.

Only Debian's package is tried, by root: whoever runs this elsewhere chooses for themselves.
"""

import os
import shutil
import subprocess
import sys

from browser.chromium import VARIABLE, missing

_LIMIT_S = 150  # of each step
_APT = ["apt-get", "-q", "-y", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20"]


def refused(*arguments: str) -> str | None:
    """Why apt-get did not do it; None if it did."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            [*_APT, *arguments], env=environment, timeout=_LIMIT_S, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"apt-get {arguments[0]} took more than {_LIMIT_S} s"
    if done.returncode:
        said = done.stdout.strip().splitlines() or [f"status {done.returncode}"]
        return f"apt-get {arguments[0]} failed: {said[-1]}"
    return None


reason = missing()
if reason and VARIABLE not in os.environ and os.geteuid() == 0 and shutil.which("apt-get"):
    # Lists that cannot be brought up to date may still do.
    updated = refused("update")
    installed = refused("install", "--no-install-recommends", "chromium", "fonts-dejavu-core")
    reason = missing() and "; ".join(filter(None, (updated, installed, missing())))
if reason:
    print(reason)
    sys.exit(1)
