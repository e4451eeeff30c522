"""Parts of a message: texts, and pictures that are within the body. Nothing is opened by name."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from emokernel.serve.schemas.shared import Short, Strict, by_field, by_type, union

MOST_PARTS = 256
_LARGEST_TEXT = 2**22
_PICTURE = re.compile(r"data:image/(?:png|jpeg|jpg|gif|webp);base64,([A-Za-z0-9+/]+={0,2})")

Text = Annotated[str, Field(max_length=_LARGEST_TEXT)]


def _within(address: str) -> str:
    """ValueError for a picture that is anywhere else than in the text itself."""
    found = _PICTURE.fullmatch(address)
    if found is None:
        raise ValueError(
            "a picture is sent within the body, as data:image/png;base64,...: no address or path"
            " is opened"
        )
    try:
        base64.b64decode(found[1], validate=True)
    except binascii.Error as error:
        raise ValueError(f"it is no base64: {error}") from error
    return address


Picture = Annotated[str, Field(max_length=_LARGEST_TEXT), AfterValidator(_within)]


class TextPart(Strict):
    """A text of a chat."""

    type: Literal["text", "input_text", "output_text"]
    text: Text
    # What the Responses API puts beside texts that it has made.
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: Annotated[list[Any], Field(max_length=0)] | None = None


class PictureAddress(Strict):
    """Where a picture is: in the text itself."""

    url: Picture
    detail: Short | None = None


class PicturePart(Strict):
    """A picture, as chats have it."""

    type: Literal["image_url"]
    image_url: PictureAddress


class InputPicturePart(Strict):
    """A picture, as the Responses API has it."""

    type: Literal["input_image"]
    image_url: Picture
    detail: Short | None = None


_TYPES = ("text", "input_text", "output_text", "image_url", "input_image")
_tell = by_field("type", *_TYPES)


def _kind(value: Any) -> str | None:
    name = _tell(value)
    return "text" if name in ("text", "input_text", "output_text") else name


AnyPart = union(
    ("text", TextPart),
    ("image_url", PicturePart),
    ("input_image", InputPicturePart),
    tell=_kind,
    says="an object whose type is one of " + ", ".join(_TYPES),
)
_SAYS = "a text or a list of parts"
TextParts = Annotated[list[TextPart], Field(fail_fast=True, min_length=1, max_length=MOST_PARTS)]
AnyParts = Annotated[list[AnyPart], Field(fail_fast=True, min_length=1, max_length=MOST_PARTS)]
Texts = union(("text", Text), ("list", TextParts), tell=by_type, says=_SAYS)
Content = union(("text", Text), ("list", AnyParts), tell=by_type, says=_SAYS)
