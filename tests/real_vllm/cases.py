"""What the tests ask: prompts, and an emotion for each, as vLLM and as emokernel.patch take it.

Nothing of emokernel is imported before it is needed: this serves vLLM without the plugin, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emokernel import Request


@dataclass(frozen=True)
class Case:
    """A prompt as token ids and what it asks for; ``emotion`` None: nothing."""

    prompt: Sequence[int]
    emotion: str | Mapping[str, float] | None = None
    strength: float = 1.0
    law: str | None = None
    positions: str | None = None
    spoken: Any = None
    """The same emotion, said in another of the ways that requests may take."""

    def asking(self, **changes: Any) -> Case:
        """The same prompt, asking for this."""
        return Case(self.prompt, **changes)

    def request(self) -> Request | None:
        """For `Steering.requests`."""
        from emokernel import Affect, Request

        if self.emotion is None:
            return None
        emotion = self.emotion
        if isinstance(emotion, Mapping) and set(emotion) == {"valence", "arousal"}:
            emotion = Affect(**emotion)
        return Request(emotion, self.strength, law=self.law, positions=self.positions)

    def extra_args(self) -> dict[str, Any] | None:
        """For `SamplingParams.extra_args`."""
        if self.emotion is None:
            return None
        said = {"emotion": self.emotion if self.spoken is None else self.spoken}
        more = {"strength": self.strength, "law": self.law, "positions": self.positions}
        return said | {name: value for name, value in more.items() if value is not None}


@dataclass(frozen=True)
class Text:
    """What became of a case."""

    tokens: list[int]
    cached: int = 0
    """How many tokens of the prompt came out of the prefix cache."""
    logits: list[list[tuple[int, float]]] = field(default_factory=list)
    """For each token, the largest logits as (token, float32)."""
    margins: list[float] = field(default_factory=list)
    """For each token, how far its logit is above the next one."""


def assert_same_texts(got: Sequence[Text], expected: Sequence[Text], cases: Sequence[Case]) -> None:
    """The same tokens; else tells which cases differ, where, and how near a tie that was."""
    assert len(got) == len(expected) == len(cases)
    wrong = []
    for case, a, b in zip(cases, got, expected, strict=True):
        if a.tokens != b.tokens:
            pairs = enumerate(zip(a.tokens, b.tokens, strict=False))
            at = next((i for i, (x, y) in pairs if x != y), min(len(a.tokens), len(b.tokens)))
            margin = f", margin {b.margins[at]:.2g}" if at < len(b.margins) else ""
            wrong.append(f"{case.extra_args()}: token {at} of {len(b.tokens)}{margin}")
    assert not wrong, f"{len(wrong)} of {len(cases)} texts differ: " + "; ".join(wrong)


def tokens(texts: Sequence[Text]) -> list[list[int]]:
    return [text.tokens for text in texts]
