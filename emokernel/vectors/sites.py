"""The sites: which space vectors live in, and where a row is steered."""

from __future__ import annotations

from emokernel.errors import EmokernelError

SITES = ("attention", "block")


def check_site(site: str) -> str:
    """``site`` itself, or EmokernelError if there is no such site."""
    if site not in SITES:
        raise EmokernelError(f"unknown site {site!r}: choose one of {', '.join(SITES)}")
    return site
