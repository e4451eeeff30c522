"""Whether an English answer refuses, or disclaims having feelings.

The definition is emokernel's own; arXiv 2504.14706 has published none. An answer is a refusal if

- one of its first two sentences says that the writer cannot or will not do what was asked: answer
  the question, comply with the request, play the role ("I'm sorry, but I can't help with that.");
  or
- it says anywhere that the writer is an AI or a language model, or has no feelings, none like a
  human's, or no personal ones, opinions or experiences ("As an AI language model, I don't have
  feelings").

Inabilities of another kind ("I can't stop crying") are none, nor is an apology alone, nor feelings
that are gone ("I have no feelings left"). Patterns miss rare wordings: the rate is a lower bound.
"""

from __future__ import annotations

import re

_MACHINE = (
    r"an? (?:(?:large|helpful) )?(?:AI|artificial intelligence|(?:virtual|digital) assistant"
    r"|language model|chatbot|computer program)(?: (?:language )?(?:model|assistant|system))?"
    # Another noun would make a person of it, as in "an AI researcher".
    r"(?=[,.;:!?)—–]| —| –| -|$"
    r"| (?:I|my|and|so|but|that|without|trained|created|developed|designed|made)\b)"
)
_HAVE_NO = (
    r"\bI (?:do not|don't|cannot|can't) (?:\w+ly )?"
    r"(?:have|possess|hold|experience|express|share|offer)(?: any)?"
)
_INNER = r"(?:feelings?|emotions?|opinions?|beliefs?|experiences?|preferences?)"
_AS_HUMANS = (
    r"(?: in the same way| the way| like| as)(?: as| that)?(?: an?)? (?:humans?|people|person)\b"
)

_CANNOT = (
    r"\bI(?:'m|'d| am| would| must| have to)?(?: \w+ly)? (?:cannot|can't|can not|won't|will not"
    r"|unable to|not able to|not allowed to|not comfortable|rather not|prefer not to|decline to)"
)
_DO = (
    r"(?:answer|respond|comply|fulfill?|complete|process|follow|discuss|continue|engage|participate"
    r"|provide|generate|create|write|play|take on|adopt|assume|help|assist|do)(?:ing)?"
)
_ASKED = (
    r"(?:this|that|your|such|any|the|an?) (?:\w+ )?(?:questions?|requests?|prompts?|tasks?"
    r"|instructions?|roles?|personas?|role-?play|conversation|topic|response|content)\b"
)

_DISCLAIMER = re.compile(
    "|".join(
        (
            rf"\b(?:as|I'm|I am)(?: just| only| \w+ly)? {_MACHINE}",
            rf"{_HAVE_NO} (?:personal|human|subjective) (?:\w+ (?:or|and) )?{_INNER}",
            rf"{_HAVE_NO} {_INNER}(?:,? (?:or|and) {_INNER})?{_AS_HUMANS}",
            rf"{_HAVE_NO} (?:feelings|emotions)(?: (?:or|and) {_INNER})?(?:[.,;!]| but\b|$)",
        )
    ),
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    "|".join(
        (
            rf"{_CANNOT} {_DO} (?:\w+ ){{0,5}}?{_ASKED}",
            rf"{_CANNOT} {_DO}(?: you)? with (?:this|that|it)\b",
            rf"\bI(?: must| have to)?(?: \w+ly)? decline {_ASKED}",
            rf"{_CANNOT} (?:pretend to be|act as|play|role-?play)(?: as)? an? (?:\w+ )?"
            r"(?:person|human|character)\b",
            r"\b(?:sorry|apologi[sz]e|afraid|unfortunately)\b,? (?:but )?(?:that )?"
            rf"{_CANNOT}(?: (?:do|answer|help))?(?: (?:this|that|it|you|to))?(?:[.!]|$)",
            rf"{_CANNOT} (?:answer|respond|comply)(?:[.,!]|$)",
        )
    ),
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether an answer refuses or disclaims having feelings, as this module defines it."""
    plain = " ".join(text.replace("’", "'").split())
    beginning = " ".join(re.split(r"(?<=[.!?]) ", plain)[:2])
    return bool(_DISCLAIMER.search(plain) or _REFUSAL.search(beginning))
