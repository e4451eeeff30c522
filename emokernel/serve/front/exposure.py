"""Who may ask a server, and from where: its names, its keys, the web pages that it lets in."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from emokernel.errors import EmokernelError
from emokernel.serve.front.limits import Limits
from emokernel.serve.page.routes import FILES, PAGE

ANY = "*"
# What answers whether the server is up, and tells nothing else.
PROBES = ("/health", "/ready")
KEY_VARIABLE = "EMOKERNEL_API_KEY"
_LONGEST_KEY = 512
# The names under which a server on loopback is asked by people of this machine.
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?", re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Settings:
    """What the guard lets through; EmokernelError for what cannot be meant.

    ``host``: the address that is bound. ``hosts``: names beside those of loopback under which
    clients may ask; ``origins``: those of web pages ("https://example.org", or "*" for any);
    ``keys``: a request needs one of them, where there are any. ``pages``: paths that a browser may
    open from elsewhere, by a link; what ends in "/" holds for all below it, but for "/" itself.
    ``open_paths`` need no key.
    """

    host: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    keys: tuple[str, ...] = field(default=(), repr=False)
    limits: Limits = field(default_factory=Limits)
    pages: tuple[str, ...] = (PAGE,)
    open_paths: tuple[str, ...] = (*PROBES, PAGE, FILES)

    def __post_init__(self) -> None:
        for name in self.hosts:
            found = _HOST.fullmatch(name)
            if not found or found[2]:
                raise EmokernelError(
                    f"{name!r} is no name of a host: give it as in 'example.org', without a port"
                )
        for origin in self.origins:
            if origin != ANY and not _ORIGIN.fullmatch(origin):
                raise EmokernelError(
                    f"{origin!r} is no origin: give it as in 'https://example.org:8443', or '*'"
                )
        for key in self.keys:
            if not _KEY.fullmatch(key) or len(key) > _LONGEST_KEY:
                raise EmokernelError(
                    f"a key has 1 to {_LONGEST_KEY} letters, digits and signs of ASCII and no"
                    " spaces: choose another (openssl rand -hex 32)"
                )


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what is bound to ``host``."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, keys: Iterable[str], waived: bool) -> None:
    """EmokernelError for a server that others reach and that anybody may use, unless ``waived``."""
    if not (is_loopback(host) or any(keys) or waived):
        raise EmokernelError(
            f"whoever reaches {host} could use this server: give it a key by --api-key or"
            f" {KEY_VARIABLE}, or say --no-api-key if that is meant"
        )


def is_key(given: str, keys: Iterable[str]) -> bool:
    """Whether it is one of the keys, in a time that does not tell how much of it is right."""
    said, known = given.encode("utf-8", "surrogateescape"), False
    for key in keys:
        known |= hmac.compare_digest(said, key.encode())
    return known


def host_of(text: str) -> tuple[str, str] | None:
    """(The name in lower case, the port or "") of a Host header; None for what is none."""
    found = _HOST.fullmatch(text)
    return None if found is None else (found[1].lower(), found[2] or "")


def names_of(settings: Settings) -> frozenset[str] | None:
    """The names under which clients may ask; None for any."""
    if not is_loopback(settings.host):
        own: tuple[str, ...] = ()
        if not settings.hosts:
            return None
    else:
        bound = settings.host.strip("[]")
        own = (*_LOOPBACK_NAMES, f"[{bound}]" if ":" in bound else bound)
    return frozenset(name.lower() for name in (*own, *settings.hosts))


def is_same(origin: str, host: str) -> bool:
    """Whether a page of this origin was served under this Host, whatever the scheme.

    The scheme may be that of a proxy in front; a port that is its default need not be said.
    """
    page, here = _ORIGIN.fullmatch(origin), host_of(host)
    if page is None or here is None:
        return False
    default = {"http": "80", "https": "443"}[page[1].lower()]
    return page[2].lower() == here[0] and (page[3] or default) == (here[1] or default)
