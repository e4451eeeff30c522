"""How much a server takes: bytes, tokens, requests at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What no request may exceed; counts unless said otherwise."""

    body_bytes: int = 4 * 2**20
    body_s: float = 30.0  # seconds that a body may take to arrive
    stalled_s: float = 30.0  # seconds that a client may leave unread what is sent to it
    running: int = 32  # rows that generate at a time
    waiting: int = 256  # requests that wait for a place
    sides: int = 16  # rows of one compare
    drain_s: float = 30.0  # seconds that what runs may go on after SIGTERM
    max_tokens: int = 4096
    prompt_characters: int = 1_000_000
