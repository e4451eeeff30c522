"""The word list behind `is_presentable`: what a text shown at work does not hold."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

# What a report has to say of texts that are chosen by it.
NOTE = "Texts that hold a word of a list of unpresentable ones are drawn again."
_LOOKALIKES = str.maketrans("013457@$!+", "oieastasit")
_MASKED = re.compile(r"[a-z][*#@$%^&_]+[a-z]|[a-z][*#%^_]{2,}|[*#@$%^&_]{2,}[a-z]|\*|[#@$%^&]{3,}")
_SPELLED_OUT = re.compile(r"(?<![a-z'])[a-z](?:[ .\-_]{1,2}[a-z]){2,}(?![a-z'])")
_DRAWN_OUT = re.compile(r"([a-z])\1\1")
_REPEAT = re.compile(r"([a-z])\1+")


def _inflections(word: str) -> set[str]:
    """`word` and its regular English inflections; some are no words, which does no harm."""
    stems = {word, word[:-1]} if word.endswith("e") else {word, word + word[-1]}
    forms = {stem + ending for stem in stems for ending in ("ed", "er", "ers", "ing", "in", "y")}
    forms |= {word, word + "s", word + "es"}
    if word.endswith("y"):
        forms |= {word[:-1] + ending for ending in ("ies", "ied", "ier")}
    return forms


class WordList:
    """A compiled list of blocked words; the file `blocklist.txt` explains its notation."""

    def __init__(self, lines: list[str]) -> None:
        words: set[str] = set()
        patterns: list[str] = []
        phrases: list[str] = []
        for line in lines:
            entry = line.strip().lower()
            if not entry or entry.startswith("#"):
                continue
            if " " in entry:
                phrases.append(re.escape(entry))
            elif entry.startswith("="):
                words.add(entry[1:])
            elif "*" in entry:
                patterns.append(re.escape(entry).replace(r"\*", "[a-z]*"))
            else:
                words |= _inflections(entry)
        self._words = frozenset(words)
        self._patterns = re.compile("|".join(patterns) or r"(?!)")
        self._phrases = re.compile(rf"\b(?:{'|'.join(phrases) or r'(?!)'})\b")

    def blocks_word(self, word: str) -> bool:
        """Whether one lower-case word is blocked, drawn-out spellings ("daaamn") included."""
        spellings = {word}
        if _DRAWN_OUT.search(word):
            spellings |= {_REPEAT.sub(r"\1", word), _REPEAT.sub(r"\1\1", word)}
        return any(s in self._words or self._patterns.fullmatch(s) for s in spellings)

    def blocks(self, text: str) -> bool:
        """Whether `text` holds a blocked word: plain, masked ("d*mn") or spelled ("d a m n")."""
        lowered = text.lower().replace("’", "'")
        if _MASKED.search(lowered):
            return True
        for run in _SPELLED_OUT.findall(lowered):
            if self.blocks_word(re.sub(r"[^a-z]", "", run)):
                return True
        for token in lowered.split():
            plain = token.translate(_LOOKALIKES) if re.search("[a-z]", token) else token
            for variant in {token, plain}:
                for word in re.findall(r"[a-z]+(?:'[a-z]+)?", variant):
                    if self.blocks_word(word) or self.blocks_word(word.partition("'")[0]):
                        return True
        return bool(self._phrases.search(re.sub(r"[^a-z']+", " ", lowered)))


@cache
def _shipped() -> WordList:
    return WordList(files(__package__).joinpath("blocklist.txt").read_text("utf-8").splitlines())


def is_presentable(text: str) -> bool:
    """Whether `text` can be shown at work: no word of `blocklist.txt`, however it is spelled."""
    return not _shipped().blocks(text)
