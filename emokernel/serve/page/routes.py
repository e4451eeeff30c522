"""The routes of the page: its files, read once, with what a browser may do on it."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

# What no key guards and any other site may link to: nothing in it is about this server.
PAGE = "/"
FILES = "/page/"

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# The page talks to the server that it came from and to nobody else; texts are never markup.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # Asked for anew each time, so that the modules are all of one release; most answers are 304.
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    """Routes for the page itself and for each of its files."""
    static = files("emokernel.serve.page") / "static"
    return [
        _route(PAGE if path == "index.html" else FILES + path, path, content)
        for path, content in sorted(_read(static, ""))
    ]


def _read(folder: Traversable, above: str) -> list[tuple[str, bytes]]:
    found = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _read(each, f"{above}{each.name}/")
        elif each.name.rpartition(".")[2] in _TYPES:
            found.append((above + each.name, each.read_bytes()))
    return found


def _route(address: str, path: str, content: bytes) -> Route:
    kind = _TYPES[path.rpartition(".")[2]]
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}

    async def file(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if tag in (each.strip().removeprefix("W/") for each in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return Route(address, file, methods=["GET"], name=path)
