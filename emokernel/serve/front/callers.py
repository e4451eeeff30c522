"""The checks of a request's head: under which name, from which page, with which key it comes."""

from __future__ import annotations

from starlette.datastructures import Headers

from emokernel.serve.front.bodies import Message
from emokernel.serve.front.errors import HeadError, NoKeyError, NotAllowedError
from emokernel.serve.front.exposure import (
    ANY,
    PROBES,
    Settings,
    host_of,
    is_key,
    is_loopback,
    is_same,
    names_of,
)

_GIVE = "send it as Authorization: Bearer KEY"


class Hosts:
    """Refuses a Host that nobody allowed: the page of a stranger whose name leads to this machine.

    Off loopback the probes may come under any, since what watches a machine asks by its address.
    """

    def __init__(self, settings: Settings) -> None:
        self._names = names_of(settings)
        self._probes = () if is_loopback(settings.host) else PROBES

    def __call__(self, scope: Message) -> None:
        """HeadError for none or several, NotAllowedError for another than those."""
        given = Headers(scope=scope).getlist("host")
        host = host_of(given[0]) if len(given) == 1 else None
        if host is None:
            raise HeadError("a request has one Host header: give the name and port of this server")
        known = self._names is None or host[0] in self._names or scope["path"] in self._probes
        if not known:
            raise NotAllowedError(
                f"this server is not called {host[0][:100]!r}: ask it by its own name, or start it"
                " with --allow-host"
            )


class Pages:
    """Refuses what a web page asks that is neither this server's own nor allowed."""

    def __init__(self, settings: Settings) -> None:
        self._origins, self._pages = frozenset(settings.origins), settings.pages

    def __call__(self, scope: Message) -> None:
        """NotAllowedError for it."""
        headers = Headers(scope=scope)
        origins = headers.getlist("origin")
        if ANY in self._origins:
            return
        for origin in origins:
            allowed = origin in self._origins or is_same(origin, headers.get("host", ""))
            if not allowed or len(origins) > 1:
                raise NotAllowedError(
                    f"pages of {origin[:100]!r} may not ask this server: start it with --cors"
                )
        if not origins and headers.get("sec-fetch-site") == "cross-site":
            self._check_opened(scope, headers)

    def _check_opened(self, scope: Message, headers: Headers) -> None:
        opened = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        if not (opened and any(_is_below(scope["path"], page) for page in self._pages)):
            raise NotAllowedError("another site may not ask this server: start it with --cors")


class Keys:
    """Refuses a request without one of the keys; lets all through where there are none."""

    def __init__(self, settings: Settings) -> None:
        self._keys, self._open = settings.keys, settings.open_paths

    def __call__(self, scope: Message) -> None:
        """NoKeyError for it."""
        if not self._keys or any(_is_below(scope["path"], path) for path in self._open):
            return
        headers = Headers(scope=scope)
        given = headers.getlist("x-api-key")
        for authorization in headers.getlist("authorization"):
            scheme, _, key = authorization.partition(" ")
            if scheme.lower() == "bearer":
                given.append(key.strip())
        if not given:
            raise NoKeyError(f"this server needs a key: {_GIVE}")
        if len(given) > 2 or not all([is_key(each, self._keys) for each in given]):
            raise NoKeyError(f"this is no key of this server: {_GIVE}")


def _is_below(path: str, place: str) -> bool:
    return path == place or (len(place) > 1 and place.endswith("/") and path.startswith(place))
