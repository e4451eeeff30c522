"""What may not happen in a page: each of it is kept, and fails a test that did not expect it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

# Reported by the page itself too: not every release of Chromium writes all of these to the console.
_REPORTS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


class Watched:
    """A context of a browser whose pages may talk to ``origin`` alone, and have no errors."""

    def __init__(self, context: Any, origin: str) -> None:
        self.context, self._origin = context, _origin(origin)
        self._found: list[str] = []
        self._expected: list[str] = []
        self.requested: list[str] = []
        context.add_init_script(_REPORTS)
        context.on("console", self._console)
        context.on("weberror", lambda error: self._found.append(f"exception: {error.error}"))
        context.on("request", self._request)
        context.on("dialog", self._dialog)

    def expect(self, *patterns: str) -> None:
        """Errors that a test causes: what matches one of these from its beginning is none."""
        self._expected += patterns

    def expect_refusals(self) -> None:
        """Chromium writes a line to the console for each request that is not answered by 2xx."""
        self.expect("console: Failed to load resource: (the server responded|net::ERR_)")

    def found(self) -> list[str]:
        """All that went wrong so far and was not expected."""
        for page in self.context.pages:
            page.wait_for_timeout(0)  # takes what the browser has reported meanwhile
        return [each for each in self._found if not self._is_expected(each)]

    def _is_expected(self, told: str) -> bool:
        return any(re.match(pattern, told) for pattern in self._expected)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "assert") or "violat" in message.text.lower():
            self._found.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        self.requested.append(f"{request.method} {request.url}")
        if _origin(request.url) != self._origin:
            self._found.append(f"another origin: {request.method} {request.url}")

    def _dialog(self, dialog: Any) -> None:
        self._found.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
