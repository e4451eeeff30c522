"""Cleaning of source text for the embedded model."""

from __future__ import annotations

import re
import unicodedata
import zlib
from pathlib import Path

from emokernel.demo.wordlist import is_presentable

MIN_WORDS, MAX_WORDS, MAX_CHARACTERS = 3, 30, 180

_NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Jack", "Kate")
_QUOTES = str.maketrans(
    {"‘": "'", "’": "'", "`": "'", "´": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."}
    | dict.fromkeys("\u200b\u200d\ufeff")
)
_EMOTICON = re.compile(r"(?<!\S)(?:[:;=8xX][-'o^]?[()DPpOo3\]\[/\\|*]+|<3+|\^\^|[xX]D+|:'\()(?!\w)")
_NAME = re.compile(r"\[(?:NAME|PERSON)\]")
# A placeholder after one of these words or beside another one stands for a team or a title.
_ODD_NAME = re.compile(
    r"\b(?i:a|an|the|this|that|these|those|my|our|your|his|her|every|no) \[(?:NAME|PERSON)\]"
    r"|\[(?:NAME|PERSON)\](?:\w| ?\[| [A-Z]|-)"
)
_FOREIGN = re.compile(
    r"https?:|www\.|\.(?:com|org|net)\b|(?<!\w)/?[ru]/|[@#<>^~|\\{}=_/*\[\]()%+$&\"]|\w:|:\w|[;:]"
    r"|(?<=\s)-|-(?=\s)|\w-$|\d\w*[^\d]+\d|\d{5,}"
)
_NETWORK = re.compile(
    r"\b(?:reddit\w*|sub(?:s|reddit\w*)?|(?:up|down)vot\w*|karma|reposts?|op|ops|edit|mods?|nsfw|"
    r"ama|tldr|dm|imo|imho|eli5|flair|thread|threads|username|bot|bots|lurk\w*|memes?|tbh|til)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)?(?:-[A-Za-z]+)*|\d{1,4}(?:st|nd|rd|th|s)?")
_PRONOUNCED = re.compile(r"[aeiouy]", re.IGNORECASE)
_ACRONYMS = frozenset(
    "TV US UK DVD CEO FBI NFL NBA DNA BBC USA ID PC OK AM PM TVs MVP DJ LA".split()
)
_VOWELLESS = frozenset("mr mrs dr ms st tv dvd nfl pc pm hmm shh mvp dj hm mm ms th nd rd".split())
_SPELLINGS = dict(
    line.split("\t")
    for line in Path(__file__).with_name("spellings.txt").read_text("utf-8").splitlines()
)
# A line of English holds at least one of these; a list of names or of foreign words does not.
_FUNCTION_WORDS = frozenset(
    "a an the i i'm i've i'll i'd you you're he he's she she's it it's its we we're they they're "
    "me my your his her our their him them us this that that's these those there there's what "
    "what's who where when why how is are was were am be been do does did don't didn't doesn't "
    "has have had can can't could will won't would should not no to of in on at for with and but "
    "or if so as by from let's get go just very too all".split()
)


def clean(text: str) -> str | None:
    """`text` as one or more plain English sentences, or None if it is not fit for it.

    A cleaned line is presentable, has 3 to 30 words in ASCII, straight quotes, ordinary case and
    a full stop; cleaning it again leaves it as it is.
    """
    line = _normalise_characters(text)
    if line is None:
        return None
    # Repairing one flaw can lay open another, so repairs run until nothing changes.
    for _ in range(8):
        repaired = _repair(line)
        if repaired == line:
            return line if _is_sentence(line) and is_presentable(line) else None
        line = repaired
    return None


def _normalise_characters(text: str) -> str | None:
    """Quotes straight, emoticons and outer emoji gone, name placeholders named."""
    line = unicodedata.normalize("NFKC", text.translate(_QUOTES)).translate(_QUOTES)
    if _ODD_NAME.search(line) or not is_presentable(line.replace("*", "")):
        return None
    offset = zlib.crc32(line.encode("utf-8"))
    for number in range(len(_NAME.findall(line))):
        line = _NAME.sub(_NAMES[(offset + number) % len(_NAMES)], line, count=1)
    line = _EMOTICON.sub(" ", line)
    return "".join(c for c in line if unicodedata.category(c) not in ("So", "Sk", "Mn", "Cf"))


def _repair(line: str) -> str:
    """One pass of repairs of spacing, punctuation, spelling and case."""
    line = " ".join(line.split())
    line = re.sub(r"^[-.,!?*' ]+", "", line)
    line = re.sub(r"(?<!\S)'em\b", "them", line)
    line = re.sub(r"(?<!\S)'(?:cause|cuz|cos)\b", "because", line)
    line = re.sub(r"\b(\w{2,}in)'(?!\w)", r"\1g", line)
    line = re.sub(r"\b([wW]an|[gG]on|[gG]ot|[gG]im|[lL]em) (na|ta|me)\b", r"\1\2", line)
    line = re.sub(r"(\w) ?n 't\b", r"\1n't", line)
    line = re.sub(r"(?<=\w)\s*'\s*(t|s|re|ll|ve|m|d)\b", r"'\1", line, flags=re.IGNORECASE)
    line = re.sub(r"(\w) n't\b", r"\1n't", line)
    line = re.sub(r"\s+(?=[,.!?])", "", line)
    line = re.sub(r"[!?]*\?[!?.]*", "?", line)
    line = re.sub(r"!+[.,!]*", "!", line)
    line = re.sub(r",[,.]*", ",", line)
    line = re.sub(r"\.{2,}", "...", line)
    line = re.sub(r"\.\.\.,|\.,", ",", line)
    line = re.sub(r"([,.!?])(?=[A-Za-z])", r"\1 ", line)
    line = re.sub(r"\b(\w+)( \1\b){2,}", r"\1", line, flags=re.IGNORECASE)
    line = re.sub(r"[A-Za-z]+(?:'[A-Za-z]+)?", _respell, line)
    line = re.sub(r"[,\s]+$", "", line)
    if line and line[-1].isalnum():
        line += "."
    return re.sub(r"(?:^|(?<=[.!?] ))[a-z]", lambda match: match.group().upper(), line)


def _respell(match: re.Match[str]) -> str:
    """One word in ordinary case and spelling."""
    word = match.group()
    if word in _ACRONYMS:
        return word
    if re.search(r"([a-z])\1\1", word.lower()):
        word = re.sub(r"([A-Za-z])\1{2,}", r"\1", word)
    spelled = _SPELLINGS.get(word.lower())
    if spelled is not None:
        return spelled[0].upper() + spelled[1:] if word[0].isupper() else spelled
    if word[:2] in ("I'", "i'"):
        return "I" + word[1:].lower()
    if len(word) > 1 and not word[1:].islower():
        return word.lower() if word.isupper() else word[0] + word[1:].lower()
    return word


def _is_sentence(line: str) -> bool:
    """Whether a repaired line reads as English of a length that suits a small model."""
    if not line.isascii() or len(line) > MAX_CHARACTERS or not line.endswith((".", "!", "?")):
        return False
    if _FOREIGN.search(line) or _NETWORK.search(line) or re.search(r"[^A-Za-z0-9 ,.!?'-]", line):
        return False
    words = [word.strip(",.!?") for word in line.split()]
    if not MIN_WORDS <= len(words) <= MAX_WORDS:
        return False
    if not all(_WORD.fullmatch(word) for word in words):
        return False
    lowered = [word.lower() for word in words]
    if any(word.isalpha() and not _PRONOUNCED.search(word) and word not in _VOWELLESS
           for word in lowered):  # fmt: skip
        return False
    if any(len(word) == 1 and word not in "aio0123456789" for word in lowered):
        return False
    return any(word in _FUNCTION_WORDS for word in lowered)
