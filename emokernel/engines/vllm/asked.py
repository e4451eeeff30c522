"""What travels with a request from vLLM's front end to its core and workers: numbers, no names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

from emokernel.errors import SteeringError
from emokernel.state import Asked, Mix
from emokernel.state.mix import HEAD, Kinds

# In SamplingParams.extra_args, in the place of what the client said.
KEY = "emokernel"
# Which tokens are steered, by the number that says so.
KINDS: tuple[Kinds, ...] = tuple(
    (bool(bits & 1), bool(bits & 2), bool(bits & 4)) for bits in range(8)
)
# What clients may say, in ``extra_args``, in ``vllm_xargs`` or in a body.
FIELDS = frozenset(
    ("emotion", "strength", "law", "dose", "positions", "valence", "arousal", "intensity")
)
# Those of them that ask for something by themselves.
ASKING = frozenset(("emotion", "valence", "arousal"))


def packed(asked: Asked, of: str) -> dict[str, Any] | None:
    """A resolved request as its ``extra_args`` hold it; None where it asks for nothing.

    ``head``: `Mix.head`. ``kinds``: which tokens, a number of `KINDS`. ``of``: the digest of
    the vectors that its numbers mean. ``key``: what tells its steering from any other.
    """
    if not asks(asked):
        return None
    mix = cast(Mix, asked.mix)
    # Two that differ in what weighs nothing are one: they share a slot, and blocks.
    head = Mix(tuple(each for each in mix.components if each[1]), mix.law).head
    key = hashlib.sha256(of.encode() + head).hexdigest()[:32]
    return {"head": head, "kinds": KINDS.index(asked.kinds), "of": of, "key": key}


def asks(asked: Asked) -> bool:
    """Whether any token is steered."""
    mix, kinds = asked
    return mix is not None and any(kinds) and any(weight for _, weight in mix.components)


def held(params: Any) -> Mapping[str, Any] | None:
    """What `packed` made, of vLLM's sampling parameters; None for a request that asks nothing."""
    extra = getattr(params, "extra_args", None)
    return extra.get(KEY) if extra else None


def check(params: Any, of: str | None) -> None:
    """SteeringError for a request that no front end of this plugin has resolved.

    ``of``: the digest of the vectors that the workers have, None where they steer nothing.
    """
    extra = getattr(params, "extra_args", None) or {}
    raw = sorted(ASKING & extra.keys())
    if raw:
        raise SteeringError(
            f"{', '.join(raw)} came to the engine as it was sent, by a front end without emokernel"
            " (vLLM's in Rust has no plugins): serve with the one in Python"
        )
    given = extra.get(KEY)
    if given is None:
        return
    types = {"head": bytes, "kinds": int, "of": str, "key": str}
    fits = isinstance(given, Mapping) and given.keys() == types.keys()
    if not fits or not all(type(given[name]) is kind for name, kind in types.items()):
        raise SteeringError(f"{KEY} in extra_args is reserved: send emotion instead")
    if len(given["head"]) != HEAD.size or not 0 < given["kinds"] < len(KINDS):
        raise SteeringError(f"{KEY} in extra_args is reserved: send emotion instead")
    if given["of"] != of:
        raise SteeringError(
            "the front end has other vectors than the workers, whose file has changed since they"
            " started: restart the server"
        )
