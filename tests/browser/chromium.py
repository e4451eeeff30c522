"""The browser of the tests: which one is installed, and how it is started."""

from __future__ import annotations

import os
import shutil
from typing import Any

VARIABLE = "EMOKERNEL_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It asks nobody but the server of a test, and draws the same on every machine.
_ARGUMENTS = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--mute-audio",
    "--force-color-profile=srgb",
)  # fmt: skip


def executable() -> str | None:
    """The path of a Chromium: what the variable says, else the first on PATH; None for none."""
    named = os.environ.get(VARIABLE)
    if named:
        return shutil.which(named)
    return next(filter(None, map(shutil.which, _NAMES)), None)


def missing() -> str | None:
    """Why there is nothing to test with; None if there is."""
    if executable() is None:
        named = os.environ.get(VARIABLE)
        return (
            f"{VARIABLE}={named} is no program"
            if named
            else f"no Chromium on PATH: apt-get install chromium, or set {VARIABLE}"
        )
    return None


def launched(playwright: Any) -> Any:
    """A headless browser, which whoever calls this closes."""
    # Chromium refuses root its sandbox.
    as_root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    return playwright.chromium.launch(
        executable_path=executable(), args=[*_ARGUMENTS, *as_root], headless=True
    )
