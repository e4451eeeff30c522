"""The vectors of a server of vLLM, whose emotions have names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from emokernel.affect.mixes import Mixer
from emokernel.choices import MAPPING
from emokernel.engines.vllm.settings import Settings
from emokernel.errors import EmokernelError, ranges
from emokernel.presets import settle
from emokernel.requests import Request, Resolver
from emokernel.serve.fields import take_request
from emokernel.state import Asked
from emokernel.vectors import EmotionVectors


class NamedVectors:
    """The vectors of a server as its settings say, and what requests may ask of them.

    An `emokernel.engines.vllm.hooks.Resolving`. EmokernelError for settings that cannot be.
    """

    def __init__(self, settings: Settings) -> None:
        path = settings.vectors
        if not Path(path).exists():
            raise EmokernelError(f"there is no file {path!r}: name the vectors of this server")
        vectors = EmotionVectors.load(path)
        mapping = settings.mapping and MAPPING.check(settings.mapping)
        choices = settle(
            vectors, preset=settings.preset, calibrated=settings.calibrated, mapping=mapping,
            site=settings.site, law=settings.law, dose=settings.dose, layers=settings.layers,
            positions=settings.positions, backend=settings.backend,
        )  # fmt: skip
        mixer = Mixer(vectors, choices.calibration, choices.mapping, settings.coordinates)
        self.resolver = Resolver(mixer, choices)
        self.names, self.site, self.layers = vectors.names, choices.site, choices.layers
        self.profile = mixer.profile
        self.tensor = torch.zeros_like(mixer.basis.tensor)
        self.tensor[self.layers] = mixer.basis.tensor[self.layers]
        where = f"site {self.site}, layers {ranges(self.layers)}"
        self.told = f"{', '.join(self.names)}; {where}; strength 1.0: {choices.strengths}"
        profile = None if self.profile is None else self.profile.tolist()
        told = repr((mixer.basis.digest(), self.site, self.layers, profile))
        self.of = hashlib.sha256(told.encode()).hexdigest()[:32]

    def resolve(self, extra_args: dict[str, Any]) -> Asked:
        """What ``extra_args`` ask for, the fields of `take_request` taken out of them."""
        return self.resolver(take_request(extra_args) or Request(None))


LoadNamed = Callable[[Settings], NamedVectors]

# Read once: a file that is written anew is for the next start.
load = cache(NamedVectors)
