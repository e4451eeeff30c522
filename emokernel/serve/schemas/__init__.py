"""The bodies of the three routes of OpenAI's API: what is taken, within which bounds.

A field whose effect this server cannot give is taken only at the value at which it has none; one
that changes no answer (``user``, ``metadata``, ...) is taken and goes no further. `to_handler`
makes of a body what transformers' handlers take.
"""

from emokernel.serve.schemas.answers import answers
from emokernel.serve.schemas.chat import ChatBody
from emokernel.serve.schemas.completions import CompletionBody
from emokernel.serve.schemas.handled import Body, check_model, to_handler
from emokernel.serve.schemas.responses import ResponseBody
from emokernel.serve.schemas.shared import Feeling, Sampled, Strict

__all__ = [
    "Body",
    "ChatBody",
    "CompletionBody",
    "Feeling",
    "ResponseBody",
    "Sampled",
    "Strict",
    "answers",
    "check_model",
    "to_handler",
]
