"""The choices of an extraction, checked where they are made."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from emokernel.choices import SITE
from emokernel.errors import EmokernelError
from emokernel.extras import need

TOKENS = ("mean", "last", "each")
METHODS = ("mean", "pca", "probe")


@dataclass(frozen=True)
class Options:
    """What is recorded of a text, and what is made of it.

    site: "block", the residual stream after each block, or "attention", what the attention branch
        of each block adds to it.
    tokens: what a text counts as. "each": every token of it is a sample of equal weight, so the
        mean is the mean over tokens; "mean": the mean over its tokens is one sample, so every text
        has equal weight; "last": its last token is the sample.
    method: "mean", "pca" or "probe", see `emokernel.lab.extract.methods`.
    layers: those that get vectors, all if None; the others stay zero.
    remove_neutral: share of the variance of neutral samples, 0 to below 1, whose main components
        are projected out of the vectors; 0 removes nothing.
    remove_base: share of the mean over emotions that is subtracted from each vector.
    heldout: share of the texts that the diagnostics are measured on.
    seed: of the choice of those, of sampled answers and of what the probe reads of many texts.
    batch_tokens, batch_size: the most tokens (padding included) and texts that are read at once.
    max_length: given texts are cut to this many tokens.

    Raises EmokernelError for a value out of range.
    """

    site: str = "block"
    tokens: str = "each"
    method: str = "mean"
    layers: Sequence[int] | None = None
    remove_neutral: float = 0.0
    remove_base: float = 0.0
    heldout: float = 0.2
    seed: int = 0
    batch_tokens: int = 4096
    batch_size: int | None = None
    max_length: int = 512

    def __post_init__(self) -> None:
        SITE.check(self.site)
        if self.layers is not None:
            object.__setattr__(self, "layers", list(self.layers))
        for name, known in (("tokens", TOKENS), ("method", METHODS)):
            if getattr(self, name) not in known:
                raise EmokernelError(
                    f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}"
                )
        for name, most in (("remove_neutral", False), ("remove_base", True), ("heldout", False)):
            share = getattr(self, name)
            if not (0 <= share < 1 or (most and share == 1)):
                raise EmokernelError(
                    f"{name} is a share from 0 to {'1' if most else 'below 1'}, got {share}"
                )
        for name, least in (("batch_tokens", 1), ("batch_size", 1), ("max_length", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise EmokernelError(f"{name} must be at least {least}, got {value}")

    def check_packages(self) -> None:
        """EmokernelError if these options need a package that is not installed."""
        if self.heldout or self.method == "probe":
            need("sklearn")
        if self.remove_neutral or self.method == "pca":
            need("scipy")

    def check_emotions(self, emotions: Collection[str]) -> None:
        """EmokernelError if these options can leave nothing of so few emotions."""
        if len(emotions) == 1 and self.remove_base == 1:
            raise EmokernelError(
                "a single emotion is all base, and nothing is left of it without: give more"
                " emotions, or a smaller remove_base"
            )

    def layers_of(self, count: int) -> list[int]:
        """The chosen ones of ``count`` layers, ascending; EmokernelError if one does not exist."""
        chosen = sorted(set(range(count) if self.layers is None else self.layers))
        if not chosen or chosen[0] < 0 or chosen[-1] >= count:
            raise EmokernelError(f"layers must be numbers from 0 to {count - 1}, got {chosen}")
        return chosen
