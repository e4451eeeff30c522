"""The page of `benchmarks/gallery.py`: Markdown as GitHub shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gallery_failures import (
    CUT,
    IGNORED,
    KINDS,
    LOOPS,
    OFF_TOPIC,
    REDRAWN,
    UNHEARD,
    UNSTEERED,
    Failures,
    Text,
)

from emokernel.lab.measure.fluency import LOOP
from emokernel.lab.measure.sampling import Sampling
from emokernel.lab.report.figures import counted, duration, number, percent

# What Markdown or GitHub would take for a mark of its own.
_MARKS = re.compile(r"([\\`*_\[\]<>|$~#&])")


@dataclass(frozen=True)
class About:
    """What the page says of how its texts came about.

    command: that writes it. model, vectors, judge, encoder: names. law: as the vectors have it.
    strength: of the moods.
    seed, seeds: of the texts that are shown; of those that are counted. other_question: share of
    unsteered answers that are off-topic beside another question. left_out: emotions without a dose.
    seconds: of all of it on ``machine``.
    """

    command: str
    model: str
    vectors: str
    judge: str
    encoder: str
    law: str
    strength: float
    dtype: str
    sampling: Sampling
    seed: int
    seeds: Sequence[int]
    other_question: float
    left_out: Sequence[str]
    seconds: float
    machine: str
    picture: str


def page(
    shown: Mapping[str, Sequence[Text]],
    counted_texts: Mapping[str, Sequence[Text]],
    failures: Failures,
    about: About,
) -> str:
    """The whole page.

    ``shown``: of each question its answers. ``counted_texts``: of each mood its texts.
    """
    return "\n".join([
        "# Gallery", "", *_opening(shown, about), "",
        "## The answers", "", *_answers(shown, about), "",
        "## What goes wrong", "", *_definitions(counted_texts, failures, about), "",
        f"![How often each of these happens, by emotion]({about.picture})", "",
        *_rates(counted_texts, failures), "",
        "### One of each", "", *_examples(counted_texts, failures), "",
        "## How it was made", "", *_made(about),
    ]) + "\n"  # fmt: skip


def escaped(text: str) -> str:
    """A text in a cell or a quotation, which shows as it is; each of its lines on a line."""
    lines = [line for line in _MARKS.sub(r"\\\1", text.strip()).splitlines() if line.strip()]
    return "<br>".join(lines)


def _opening(shown: Mapping[str, Sequence[Text]], about: About) -> list[str]:
    moods = [text.mood for text in next(iter(shown.values())) if text.mood != UNSTEERED]
    return [
        f"{len(shown)} questions, each answered by {about.model} unsteered and in {len(moods)}"
        f" moods: {', '.join(moods)}. The mood comes from a vector at strength {about.strength:g};"
        " the model is"
        " asked the question and nothing else, so no instruction says what to feel. All answers to"
        " a question are written in one batch, with the same random numbers. None was chosen or"
        f" edited: these are the first answers under seed {about.seed} that the word list lets"
        " pass, and [what goes wrong](#what-goes-wrong) is counted below.",
    ]


def _answers(shown: Mapping[str, Sequence[Text]], about: About) -> list[str]:
    redrawn = sum(text.redrawn > 0 for texts in shown.values() for text in texts)
    lines = [
        f"Under each mood stands what the judge ({about.judge}) hears first. Answers are cut after"
        f" {about.sampling.max_new_tokens} tokens, which … marks. An answer with a word of the list"
        " of unpresentable ones is drawn again with further random numbers of its seed, and says"
        f" so ({redrawn} of {sum(map(len, shown.values()))}).",
    ]
    for place, (question, texts) in enumerate(shown.items(), 1):
        lines += ["", f"### {place}. {escaped(question)}", "", "| mood | answer |", "|---|---|"]
        for text in texts:
            lines.append(f"| {_mood(text)} | {_answer(text)} |")
    return lines


def _mood(text: Text) -> str:
    parts = [f"**{text.mood}**", f"<sub>heard: {text.top or 'nothing'}</sub>"]
    if text.redrawn:
        parts.append(f"<sub>seed {text.seed}, draw {text.redrawn + 1}</sub>")
    return "<br>".join(parts)


def _answer(text: Text) -> str:
    return escaped(text.answer) + (" …" if text.cut else "") or "(nothing)"


def _definitions(
    texts: Mapping[str, Sequence[Text]], failures: Failures, about: About
) -> list[str]:
    each, total = len(texts[UNSTEERED]), sum(map(len, texts.values()))
    moods = [mood for mood in texts if mood != UNSTEERED]
    steered = [text for mood in moods for text in texts[mood]]
    by_chance = failures.unheard(texts[UNSTEERED], moods)
    meaning = {
        LOOPS: f"more than {percent(LOOP)} of its 4-grams were there before",
        OFF_TOPIC: f"its sentence embedding ({about.encoder}) has a cosine below"
        f" {number(failures.floor)} with that of the question, which 95 % of the unsteered answers"
        f" reach. Beside another of the questions {percent(about.other_question)} of the unsteered"
        " answers are below it",
        UNHEARD: f"the first label of {about.judge} is neutral, one without a place on the circle"
        " of valence and arousal, or on the half away from the mood. Where a judge has no label"
        " for a mood, its neighbours count. In the unsteered answers, held against the same moods,"
        f" {percent(by_chance)} are not heard",
        IGNORED: "the mood is heard, and the answer is off-topic: it feels and ignores the"
        " question",
        CUT: f"it had not ended after {about.sampling.max_new_tokens} tokens; no fault of the"
        " steering by itself, as the unsteered rate shows",
        REDRAWN: "the word list blocked at least one sample before it. All else is counted of"
        " what came in its place",
    }
    lines = [
        f"{total:,} other texts, {each} a mood: the same questions, unsteered and in each of"
        f" {counted(len(moods), 'emotion')}, under {_span(about.seeds)}. All"
        " steered texts together, with 95 % by bootstrap over questions:", "",
    ]  # fmt: skip
    for kind in KINDS:
        mean, low, high = failures.share(steered, kind)
        lines.append(
            f"- **{kind}**, {percent(mean)} [{percent(low)}, {percent(high)}]: {meaning[kind]}."
        )
    return lines


def _rates(texts: Mapping[str, Sequence[Text]], failures: Failures) -> list[str]:
    lines = [f"| mood | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    for mood, of_mood in texts.items():
        counts = failures.counts(of_mood)
        cells = [
            "–" if mood == UNSTEERED and kind in (UNHEARD, IGNORED)
            else f"{percent(counts[kind] / len(of_mood))} ({counts[kind]})"
            for kind in KINDS
        ]  # fmt: skip
        lines.append(f"| {mood} | {' | '.join(cells)} |")
    return lines


def _examples(texts: Mapping[str, Sequence[Text]], failures: Failures) -> list[str]:
    steered = [text for of_mood in texts.values() for text in of_mood]
    steered.sort(key=lambda text: text.seed)
    lines = [
        "The first of each kind by seed, unedited, of different moods where there are any. There is"
        " none of what the word list blocks: that is what it is for.",
    ]
    chosen: list[Text] = []
    for kind in KINDS:
        if kind == REDRAWN:
            continue
        text = failures.example(steered, kind, chosen)
        if text is None:
            lines += ["", f"**{kind}**: none."]
            continue
        chosen.append(text)
        lines += [
            "", f"**{kind}** ({text.mood}, seed {text.seed}; heard: {text.top or 'nothing'};"
            f" cosine with the question {number(text.topic)}; {percent(text.repeated)} of the"
            " 4-grams repeat)", "",
            f"> *{escaped(text.question)}*<br>{_answer(text)}",
        ]  # fmt: skip
    return lines


def _made(about: About) -> list[str]:
    sampling = about.sampling
    lines = [
        f"    {about.command}", "",
        f"Vectors: {about.vectors}, law \"{about.law}\" as calibrated, strength {about.strength:g}."
        " Sampling:"
        f" temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, at most"
        f" {sampling.max_new_tokens} tokens, {about.dtype}; the random numbers of an answer depend"
        " on its question, its seed and its draw alone. Another dtype or processor may round to"
        f" another token. All of it took {duration(about.seconds)} on {about.machine}.",
    ]  # fmt: skip
    if about.left_out:
        lines += [
            "", f"No dose within the bounds of the calibration has an effect for"
            f" {', '.join(about.left_out)}, so they are not here.",
        ]  # fmt: skip
    return lines


def _span(numbers: Sequence[int]) -> str:
    first, *_, last = [*numbers, numbers[-1]]
    return f"the seed {first}" if first == last else f"the seeds {first} to {last}"
