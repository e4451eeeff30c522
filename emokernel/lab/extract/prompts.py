"""How a model is asked for an emotion, and how for none.

A `Conditioning` turns a query into the context that the model reads before it answers, once with
an emotion and once without; the two differ in that alone. docs/queries.md has more.
"""

from __future__ import annotations

import difflib
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.errors import EmokernelError
from emokernel.lab.extract.chat import render

# A wording: with an emotion, and without one.
Variant = tuple[str, str]

_FIELD = re.compile(r"\{(emotion|query)\}")
_SPECIAL = re.compile(r"<\|[^|<>]*\|>")


@cache
def wordings(kind: str) -> tuple[Variant, ...]:
    """The package's own, for "chat", "plain" or "openings"."""
    content = json.loads(Path(__file__).with_name("wordings.json").read_text("utf-8"))
    return tuple((emotional, neutral) for emotional, neutral in content[kind])


@dataclass(frozen=True)
class Conditioning:
    """Contexts with an emotion and without; made by `chat`, `plain` or `prefix`.

    ``variants`` are the wordings, ``kind`` the name of the way they are put.
    """

    kind: str
    variants: tuple[Variant, ...]

    def __post_init__(self) -> None:
        if not self.variants:
            raise EmokernelError(f"conditioning {self.kind!r} needs at least one wording")
        for variant in self.variants:
            _check_fields(variant, query=self.kind != "chat")

    @classmethod
    def chat(cls, *, variants: Iterable[Variant] | None = None) -> Conditioning:
        """An instruction, then the query, through the tokenizer's chat template.

        The instruction is a system message; where the template takes none it stands before the
        query in the user's turn. ``variants``: pairs of instructions, with "{emotion}" in the first
        of each.
        """
        return cls("chat", wordings("chat") if variants is None else tuple(variants))

    @classmethod
    def plain(
        cls, *, openings: bool = False, variants: Iterable[Variant] | None = None
    ) -> Conditioning:
        """A framing in plain text, for base models without a chat template.

        The query is answered or, with ``openings``, continued. ``variants``: pairs of templates
        with "{query}", and with "{emotion}" in the first of each.
        """
        if variants is None:
            variants = wordings("openings" if openings else "plain")
        return cls("plain", tuple(variants))

    @classmethod
    def prefix(cls, emotional: str, neutral: str) -> Conditioning:
        """One pair of templates, such as "<|{emotion}|>{query}" and "<|neutral|>{query}".

        A piece like ``<|joy|>`` must be a token of the tokenizer.
        """
        return cls("prefix", ((emotional, neutral),))

    @property
    def adds_special_tokens(self) -> bool:
        """Whether the tokenizer has still to add its special tokens to a context.

        Its argument ``add_special_tokens``; the text of a chat template holds them already.
        """
        return self.kind != "chat"

    def emotional(self, query_text: str, emotion: str, tokenizer: Tokenizer) -> str:
        """The context that asks for ``emotion``."""
        if not isinstance(emotion, str) or not emotion.strip():
            raise EmokernelError(
                f"{emotion!r} is no name of an emotion: give a noun, such as 'joy'"
            )
        template = _fill(self._variant(query_text)[0], emotion=emotion)
        return self._context(template, query_text, tokenizer)

    def neutral(self, query_text: str, tokenizer: Tokenizer) -> str:
        """The same context without emotion."""
        return self._context(self._variant(query_text)[1], query_text, tokenizer)

    def describe(self) -> dict[str, Any]:
        """The conditioning as plain data, for the provenance of vectors."""
        return {"kind": self.kind, "variants": [list(variant) for variant in self.variants]}

    def _variant(self, query_text: str) -> Variant:
        return self.variants[zlib.crc32(query_text.encode()) % len(self.variants)]

    def _context(self, template: str, query: str, tokenizer: Tokenizer) -> str:
        if self.kind != "chat":
            check_tokens(_SPECIAL.findall(template), tokenizer)
            return _fill(template, query=query)
        if not getattr(tokenizer, "chat_template", None):
            raise EmokernelError(
                f"the tokenizer {_name(tokenizer)} has no chat template: use the conditioning"
                " 'plain' (--conditioning plain), or give templates of your own"
            )
        return instructed(template, query, tokenizer)


def question(query_text: str, tokenizer: Tokenizer) -> str:
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


def instructed(instruction: str, query_text: str, tokenizer: Tokenizer) -> str:
    """The query through the tokenizer's chat template, behind an instruction.

    That is the system message or, where the template takes none, stands in the user's turn.
    EmokernelError if the template fails or leaves the query out.
    """
    try:
        return render([("system", instruction), ("user", query_text)], tokenizer)
    except EmokernelError:
        return question(f"{instruction}\n\n{query_text}", tokenizer)


def check_tokens(special: Sequence[str], tokenizer: Tokenizer) -> None:
    """EmokernelError for a piece that looks like a special token, but is none of the tokenizer's.

    It would be cut into characters, and the model would read noise.
    """
    known = tokenizer.get_added_vocab() if special else {}
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


def _name(tokenizer: Tokenizer) -> str:
    return getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
