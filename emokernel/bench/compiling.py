"""What torch.compile needs and does not find, in one line."""

from __future__ import annotations

import torch

from emokernel.errors import EmokernelError

_MISSING = {
    "No working C++ compiler": "there is no C++ compiler: install g++ or clang, or name one in CXX",
    "Cannot find a working triton": "there is no Triton for this GPU: pip install"
    " 'emokernel[triton]'",
}


def check_backend(name: str) -> None:
    """EmokernelError if torch.compile knows no backend ``name``."""
    known = torch.compiler.list_backends(exclude_tags=())
    if name not in known:
        raise EmokernelError(
            f"torch.compile has no backend {name!r}: choose one of {', '.join(known)}"
        )


def obstacle(error: BaseException) -> str | None:
    """What a compilation misses on this machine, and what to do; None for any other error."""
    text = str(error)
    return next((reason for sign, reason in _MISSING.items() if sign in text), None)
