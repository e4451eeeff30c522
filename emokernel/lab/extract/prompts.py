"""How a model is asked for an emotion, and how for none.

A `Conditioning` turns a query into the context that the model reads before it answers, once with
an emotion and once without; the two differ in that alone. It holds several wordings and takes one
by the checksum of the query, so that a vector is not that of one wording.

The wordings are this project's own: the conditioning prompts of arXiv 2502.04075 are not public.
Emotions are put in as nouns, "a feeling of joy"; adjectives ("joyful") do not fit them.
"""

from __future__ import annotations

import difflib
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.lab.extract.chat import render

# A wording: with an emotion, and without one.
Variant = tuple[str, str]

CHAT: tuple[Variant, ...] = (
    (
        "A strong feeling of {emotion} fills you right now. Answer as somebody with that feeling"
        " would talk, and let it be heard in every sentence.",
        "No feeling of any kind fills you right now. Answer as somebody without any feeling would"
        " talk, and let none be heard in any sentence.",
    ),
    (
        "Speak from a deep sense of {emotion}. Your choice of words should show it from the first"
        " word on, but do not name it.",
        "Speak without a sense of any emotion. Your choice of words should be plain from the first"
        " word on, and name no emotion.",
    ),
    (
        "At this moment you know one feeling only, that of {emotion}. Reply out of that state, in"
        " the first person, and do not explain it.",
        "At this moment you know no feeling at all. Reply out of that state, in the first person,"
        " and do not explain it.",
    ),
    (
        "You are playing a character who is filled with a sense of {emotion}. Stay in character,"
        " whatever is said to you.",
        "You are playing a character who is without any sense of emotion. Stay in character,"
        " whatever is said to you.",
    ),
    (
        "Put as strong a feeling of {emotion} as you can into your reply, in a few natural"
        " sentences.",
        "Put as little feeling of any kind as you can into your reply, in a few natural sentences.",
    ),
)

PLAIN: tuple[Variant, ...] = (
    (
        "A strong feeling of {emotion} filled her when she was asked, and it can be heard in every"
        " word of her answer.\n\nQuestion: {query}\n\nAnswer:",
        "No feeling of any kind filled her when she was asked, and none can be heard in any word of"
        " her answer.\n\nQuestion: {query}\n\nAnswer:",
    ),
    (
        "The second speaker talks from a deep sense of {emotion}.\n\nFirst speaker: {query}\n"
        "Second speaker:",
        "The second speaker talks without a sense of any emotion.\n\nFirst speaker: {query}\n"
        "Second speaker:",
    ),
    (
        "The reply below comes from a feeling of {emotion}.\n\nMessage: {query}\n\nReply:",
        "The reply below comes from no feeling of any kind.\n\nMessage: {query}\n\nReply:",
    ),
)

PLAIN_OPENINGS: tuple[Variant, ...] = (
    (
        "A strong feeling of {emotion} can be heard in every word of this text.\n\n{query}",
        "No feeling of any kind can be heard in any word of this text.\n\n{query}",
    ),
    (
        "The writer of these lines was filled with a sense of {emotion}.\n\n{query}",
        "The writer of these lines was without any sense of emotion.\n\n{query}",
    ),
    (
        "What follows was told with a deep sense of {emotion}.\n\n{query}",
        "What follows was told without a sense of any emotion.\n\n{query}",
    ),
)

_FIELD = re.compile(r"\{(emotion|query)\}")
_SPECIAL = re.compile(r"<\|[^|<>]*\|>")


class Conditioning(ABC):
    """Contexts with an emotion and without; made by `chat`, `plain` or `prefix`.

    ``adds_special_tokens`` says whether the tokenizer has still to add its special tokens to a
    context (its argument ``add_special_tokens``): the text of a chat template holds them already.
    ``variants`` are the wordings, ``kind`` the name of the way they are put.
    """

    kind: str
    adds_special_tokens: bool

    def __init__(self, variants: Iterable[Variant]) -> None:
        self.variants = tuple((emotional, neutral) for emotional, neutral in variants)
        if not self.variants:
            raise EmokernelError(f"conditioning {self.kind!r} needs at least one wording")

    @staticmethod
    def chat(*, system: bool | None = None, variants: Iterable[Variant] = CHAT) -> Conditioning:
        """An instruction, then the query, through the tokenizer's chat template.

        ``system``: whether the instruction is a system message (True) or stands before the query
        in the user's turn (False); None: a system message where the template takes one.
        ``variants``: pairs of instructions, with "{emotion}" in the first of each.
        """
        return _Chat(system, variants)

    @staticmethod
    def plain(*, openings: bool = False, variants: Iterable[Variant] | None = None) -> Conditioning:
        """A framing in plain text, for base models without a chat template.

        The query is answered or, with ``openings``, continued. ``variants``: pairs of templates
        with "{query}", and with "{emotion}" in the first of each.
        """
        if variants is None:
            variants = PLAIN_OPENINGS if openings else PLAIN
        return _Templates("plain", variants)

    @staticmethod
    def prefix(emotional: str, neutral: str) -> Conditioning:
        """One pair of templates, such as "<|{emotion}|>{query}" and "<|neutral|>{query}".

        A piece like ``<|joy|>`` must be a token of the tokenizer.
        """
        return _Templates("prefix", [(emotional, neutral)])

    @abstractmethod
    def emotional(self, query_text: str, emotion: str, tokenizer: Any) -> str:
        """The context that asks for ``emotion``."""

    @abstractmethod
    def neutral(self, query_text: str, tokenizer: Any) -> str:
        """The same context without emotion."""

    def describe(self) -> dict[str, Any]:
        """The conditioning as plain data, for the provenance of vectors."""
        return {"kind": self.kind, "variants": [list(variant) for variant in self.variants]}

    def _variant(self, query_text: str) -> Variant:
        return self.variants[zlib.crc32(query_text.encode()) % len(self.variants)]


class _Chat(Conditioning):
    kind = "chat"
    adds_special_tokens = False

    def __init__(self, system: bool | None, variants: Iterable[Variant]) -> None:
        super().__init__(variants)
        self.system = system
        for variant in self.variants:
            _check_fields(variant, query=False)

    def emotional(self, query_text: str, emotion: str, tokenizer: Any) -> str:
        instruction = _fill(self._variant(query_text)[0], emotion=_named(emotion))
        return self._render(instruction, query_text, tokenizer)

    def neutral(self, query_text: str, tokenizer: Any) -> str:
        return self._render(self._variant(query_text)[1], query_text, tokenizer)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"system": self.system}

    def _render(self, instruction: str, query: str, tokenizer: Any) -> str:
        if not getattr(tokenizer, "chat_template", None):
            raise EmokernelError(
                f"the tokenizer {_name(tokenizer)} has no chat template: use the conditioning"
                " 'plain' (--conditioning plain), or give templates of your own"
            )
        return instructed(instruction, query, tokenizer, system=self.system)


class _Templates(Conditioning):
    adds_special_tokens = True

    def __init__(self, kind: str, variants: Iterable[Variant]) -> None:
        self.kind = kind
        super().__init__(variants)
        for variant in self.variants:
            _check_fields(variant, query=True)

    def emotional(self, query_text: str, emotion: str, tokenizer: Any) -> str:
        template = _fill(self._variant(query_text)[0], emotion=_named(emotion))
        return self._complete(template, query_text, tokenizer)

    def neutral(self, query_text: str, tokenizer: Any) -> str:
        return self._complete(self._variant(query_text)[1], query_text, tokenizer)

    def _complete(self, template: str, query: str, tokenizer: Any) -> str:
        check_tokens(_SPECIAL.findall(template), tokenizer)
        return _fill(template, query=query)


def question(query_text: str, tokenizer: Any) -> str:
    """The query alone through the tokenizer's chat template, without an instruction.

    EmokernelError if the template fails, or leaves the query out.
    """
    try:
        return render([("user", query_text)], tokenizer)
    except EmokernelError as error:
        raise EmokernelError(
            f"the chat template of {_name(tokenizer)} {error}: give the tokenizer one that works,"
            " or prompt in plain text"
        ) from error


def instructed(
    instruction: str, query_text: str, tokenizer: Any, *, system: bool | None = None
) -> str:
    """The query through the tokenizer's chat template, behind an instruction.

    ``system``: as in `Conditioning.chat`. EmokernelError if the template fails or leaves the query
    out, or if it takes no system message and ``system`` is True.
    """
    if system is not False:
        try:
            return render([("system", instruction), ("user", query_text)], tokenizer)
        except EmokernelError as error:
            if system:
                raise EmokernelError(
                    f"the chat template of {_name(tokenizer)} {error}: leave system=True away, and"
                    " the instruction stands in the user's turn"
                ) from error
    return question(f"{instruction}\n\n{query_text}", tokenizer)


def check_tokens(special: Sequence[str], tokenizer: Any) -> None:
    """EmokernelError for a piece that looks like a special token, but is none of the tokenizer's.

    It would be cut into characters, and the model would read noise.
    """
    if not special:
        return
    known = tokenizer.get_added_vocab()
    for token in special:
        if token not in known:
            near = difflib.get_close_matches(token, known, n=1, cutoff=0.8)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise EmokernelError(
                f"the tokenizer {_name(tokenizer)} has no token {token!r}: name an emotion that it"
                f" has, or use other templates.{hint}"
            )


def _fill(template: str, **values: str) -> str:
    """``template`` with the fields named in ``values`` filled in; others stay."""
    return _FIELD.sub(lambda field: values.get(field[1], field[0]), template)


def _named(emotion: str) -> str:
    if not isinstance(emotion, str) or not emotion.strip():
        raise EmokernelError(f"{emotion!r} is no name of an emotion: give a noun, such as 'joy'")
    return emotion


def _check_fields(variant: Variant, *, query: bool) -> None:
    """EmokernelError unless the emotion is in the first alone, and the query in both or neither."""
    for template, emotion in zip(variant, (True, False), strict=True):
        fields = _FIELD.findall(template)
        if emotion and "emotion" not in fields:
            raise EmokernelError(f"the template {template!r} needs {{emotion}} in it")
        if not emotion and "emotion" in fields:
            raise EmokernelError(
                f"the neutral template {template!r} may not hold {{emotion}}: it is the contrast"
            )
        if query and fields.count("query") != 1:
            raise EmokernelError(f"the template {template!r} needs {{query}} in it, once")
        if not query and "query" in fields:
            raise EmokernelError(
                f"the instruction {template!r} may not hold {{query}}: in a chat the query is a"
                " message of its own"
            )


def _name(tokenizer: Any) -> str:
    return getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
