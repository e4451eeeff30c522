"""The public text behind the demo, cleaned and split.

Every script takes `--data DIR`, a folder with

- `goemotions/{train,dev,test}.tsv` and `goemotions/labels.txt`: GoEmotions (Demszky et al. 2020),
  Reddit comments with 27 emotions and neutral, CC BY 4.0,
  https://github.com/google-research/google-research/tree/master/goemotions
- `xed/en-annotated.tsv` and `xed/neu_en.txt`: XED (Öhman et al. 2020), English subtitle lines with
  Plutchik's emotions, and neutral ones, CC BY 4.0, https://github.com/Helsinki-NLP/XED

One half of the GoEmotions training comments, chosen by a hash of the comment id, is for the judge
alone. The other half and XED are for the language model and the emotion vectors, and that half as
it was written is for the judge of calibration. No text is in both, and none of the language text is
in GoEmotions dev or test.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from embedded.clean import clean
from embedded.relabel import Example, relabel

# A word that occurs once in the language text is mostly a typing error or a rare name.
MIN_WORD_COUNT = 2


def emotion_labels(data: Path) -> tuple[str, ...]:
    """The 28 GoEmotions labels in the order of their numbers."""
    return tuple(_read(data / "goemotions" / "labels.txt").split())


def training_half(data: Path, half: str) -> list[Example]:
    """The GoEmotions training comments of one half, "judge" or "language", as they were written.

    Repeated texts follow their first comment.
    """
    halves: dict[str, str] = {}
    chosen = []
    for comment, example in _goemotions(data, "train"):
        even = hashlib.sha256(comment.encode()).digest()[0] % 2 == 0
        if halves.setdefault(_key(example.text), "judge" if even else "language") == half:
            chosen.append(example)
    return chosen


def heldout_examples(data: Path, part: str) -> list[Example]:
    """GoEmotions as it was written, never for training.

    "dev" is for choosing between variants, "test" for the final figures of a judge and nothing
    else.
    """
    return [example for _, example in _goemotions(data, part)]


def language_examples(data: Path) -> list[Example]:
    """Cleaned text for the language model and the emotion vectors, each line once.

    Emotions are those that `relabel` finds in the line itself; XED's own labels are not used.
    """
    reserved = training_half(data, "judge")
    reserved += heldout_examples(data, "dev") + heldout_examples(data, "test")
    reserved = {_key(example.text) for example in reserved}
    comments = training_half(data, "language")
    cleaned: dict[str, Example] = {}
    for example in _cleaned([*comments, *_xed(data)]):
        key = _key(example.text)
        if key not in reserved:
            cleaned.setdefault(key, example)
    counts = Counter(word for key in cleaned for word in key.split())
    common = [
        example
        for key, example in cleaned.items()
        if all(counts[word] >= MIN_WORD_COUNT for word in key.split())
    ]
    return relabel(common, comments, emotion_labels(data))


def _cleaned(examples: list[Example]) -> Iterator[Example]:
    """The lines that survive `clean`; of the others the sentences that do, without emotion.

    Whether a sentence carries the emotion of the whole line is not known, but its English is as
    good to learn from.
    """
    for example in tqdm(examples, desc="cleaning", unit=" lines"):
        text = clean(example.text)
        if text is not None:
            yield Example(text, example.emotions)
            continue
        for sentence in re.split(r"(?<=[.!?])\s+|[()\n]", example.text):
            text = clean(sentence)
            if text is not None:
                yield Example(text, ())


def _read(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; --data must name a folder with goemotions/ and xed/, "
            "see benchmarks/embedded/corpus.py for their sources"
        )
    return path.read_text("utf-8")


def _key(text: str) -> str:
    """What two lines share that differ in case and punctuation only."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def _goemotions(data: Path, part: str) -> Iterator[tuple[str, Example]]:
    """Comment id and example of each row of one GoEmotions file."""
    labels = emotion_labels(data)
    for row in _read(data / "goemotions" / f"{part}.tsv").split("\n"):
        if row:
            text, numbers, comment = row.rstrip("\r").split("\t")
            emotions = tuple(labels[int(number)] for number in numbers.split(","))
            yield comment, Example(text, emotions)


def _xed(data: Path) -> Iterator[Example]:
    """The annotated and the neutral English lines of XED, without emotions."""
    for row in _read(data / "xed" / "en-annotated.tsv").split("\n"):
        if row:
            yield Example(row.rpartition("\t")[0], ())
    for row in _read(data / "xed" / "neu_en.txt").split("\n"):
        if "\t" in row:
            yield Example(row.partition("\t")[2], ())
