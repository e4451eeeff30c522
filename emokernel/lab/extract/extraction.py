"""Extraction: emotion vectors of a model, from given texts or from its own answers.

In short: for every text one row per layer is recorded (`recording`) and kept on disk (`store`);
from those rows come the vectors (`methods`) and what they are worth (`diagnostics`).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.errors import EmokernelError
from emokernel.lab.extract.answers import answer, check_answers, prompts_of
from emokernel.lab.extract.diagnostics import diagnose
from emokernel.lab.extract.methods import check
from emokernel.lab.extract.methods import vectors as vectors_of
from emokernel.lab.extract.options import Options
from emokernel.lab.extract.prompts import Conditioning
from emokernel.lab.extract.provenance import (
    count_texts,
    describe_answers,
    describe_model,
    settings_of,
    versions,
)
from emokernel.lab.extract.queries import Queries, pairs
from emokernel.lab.extract.reading import digest, read
from emokernel.lab.extract.recording import Recorder
from emokernel.lab.extract.samples import Group, Rows, split, usable
from emokernel.lab.extract.store import Store
from emokernel.lab.measure.encoding import Text, TokenizedText, encode
from emokernel.lab.measure.sampling import Sampling
from emokernel.patch.decoder import find_decoder
from emokernel.vectors.emotion_vectors import EmotionVectors


def extract(
    model: nn.Module,
    tokenizer: Tokenizer,
    emotional: Mapping[str, Iterable[Text]],
    neutral: Iterable[Text] | Mapping[str, Iterable[Text]],
    *,
    data: Any = "",
    model_id: str | None = None,
    revision: str | None = None,
    resume: str | PathLike[str] | None = None,
    restart: bool = False,
    progress: bool = True,
    **options: Any,
) -> EmotionVectors:
    """Vectors ``[L, E, d]`` of ``model`` for the emotions named in ``emotional``, from given texts.

    Texts are strings, or (context, text) pairs, where a context such as an instruction or a prefix
    conditions the model but its tokens are not recorded, as special tokens and padding are not.
    ``neutral`` is one set of texts for all emotions, or {emotion: texts}; where an emotion has as
    many of those as of its own, the i-th of both are a pair, such as one text in two contexts.

    ``options`` are the fields of `Options`: site, tokens, method and more. ``data`` describes the
    texts for the provenance, ``model_id`` and ``revision`` the model where it does not itself.
    ``resume``: a folder that keeps what was read, so that an interrupted run goes on from there and
    another method needs no second reading; remove it when it is no longer needed. ``restart``
    empties it first. Memory does not grow with the number of texts, beyond their token ids.

    Raises EmokernelError for an emotion or a neutral set without a single token, a slow tokenizer,
    an option out of range, a folder of other settings, or an emotion whose vectors would be zero in
    every layer; ModelStructureError for a model whose blocks cannot be read.
    """
    chosen = Options(**options)
    if not emotional:
        raise EmokernelError("no emotional text given: pass {emotion: texts}")
    by_emotion = isinstance(neutral, Mapping)
    if by_emotion and set(neutral) != set(emotional):
        raise EmokernelError("neutral texts by emotion need the same emotions as emotional ones")
    recorder = _recorder(model, chosen, emotional)
    samples: list[TokenizedText] = []

    def take(texts: Iterable[Text]) -> range:
        start = len(samples)
        samples.extend(map(_without_first, encode(tokenizer, texts, chosen.max_length)))
        return range(start, len(samples))

    rows = {emotion: take(texts) for emotion, texts in emotional.items()}
    if by_emotion:
        others = {emotion: take(neutral[emotion]) for emotion in rows}
    else:
        others = dict.fromkeys(rows, take(neutral))
    groups = []
    for emotion, own in rows.items():
        paired = by_emotion and len(own) == len(others[emotion])
        groups.append(Group(emotion, own, others[emotion], paired))
        _check_differ(groups[-1], samples)
    about = {"model": describe_model(model, model_id, revision), "data": data or "not described"}
    settings = {"kind": "texts", **settings_of(chosen, about), "texts": digest(samples)}
    with _store(resume, settings, restart) as store:
        return _vectors(recorder, samples, groups, store, chosen, about, progress)


def extract_answers(
    model: nn.Module,
    tokenizer: Tokenizer,
    queries: Queries,
    conditioning: Conditioning,
    *,
    emotions: Sequence[str] | None = None,
    per_emotion: int | None = None,
    sampling: Sampling | None = None,
    model_id: str | None = None,
    revision: str | None = None,
    resume: str | PathLike[str] | None = None,
    restart: bool = False,
    progress: bool = True,
    **options: Any,
) -> EmotionVectors:
    """Vectors ``[L, E, d]`` of ``model`` for ``emotions``, from its own answers.

    For every query of an emotion (`queries.pairs`, ``per_emotion`` of them at most) the model
    answers once under the context of the emotion and once under the neutral one, as ``sampling``
    says; the contexts are ``conditioning``'s. The two answers are a pair, recorded over their own
    tokens. A pair with an empty answer is dropped and counted. ``emotions``: those of the queries
    if None; any name will do where there are neutral queries.

    The rest as in `extract`; the folder ``resume`` keeps the answers as well.

    Raises EmokernelError too for a model that answers nothing to all queries of an emotion, and
    what the conditioning raises, for a tokenizer without chat template for example.
    """
    chosen, sampling = Options(**options), sampling or Sampling()
    emotions = tuple(dict.fromkeys(queries.emotions if emotions is None else emotions))
    if not emotions:
        raise EmokernelError("no emotions given, and the queries name none: pass emotions=[...]")
    recorder = _recorder(model, chosen, emotions)
    asked = {
        emotion: [query.text for query in pairs(queries, emotion, per_emotion, chosen.seed)]
        for emotion in emotions
    }
    prompts, groups = prompts_of(tokenizer, asked, conditioning)
    about = {
        "model": describe_model(model, model_id, revision),
        "data": describe_answers(queries, conditioning, sampling),
    }
    as_read = [
        TokenizedText(np.array(p.ids, np.int32), np.zeros(len(p.ids), bool)) for p in prompts
    ]
    settings = {
        "kind": "answers",
        **settings_of(chosen, about),
        "emotions": list(emotions),
        "seed": chosen.seed,
        "prompts": digest(as_read),
    }
    with _store(resume, settings, restart) as store:
        samples = answer(model, tokenizer, prompts, store, sampling, chosen, progress=progress)
        about["data"]["empty_pairs"] = check_answers(groups, samples)
        return _vectors(recorder, samples, groups, store, chosen, about, progress)


def _recorder(model: nn.Module, options: Options, emotions: Collection[str]) -> Recorder:
    options.check_packages()
    options.check_emotions(emotions)
    layers = None
    if options.layers is not None:
        layers = options.layers_of(len(find_decoder(model).blocks))
    return Recorder(model, options.site, layers=layers, last=options.tokens == "last")


def _without_first(sample: TokenizedText) -> TokenizedText:
    """The sample without the first token that the model reads, if it has another one.

    Many models attend to that one where they attend to nothing, and give it rows of a hundred times
    the usual length: a mean with it in would say how long a text is.
    """
    if sample.own[1:].any():
        sample.own[0] = False
    return sample


def _check_differ(group: Group, samples: Sequence[TokenizedText]) -> None:
    """EmokernelError for an emotion whose texts are the neutral ones: its vector would be noise."""

    def tokens(rows: Iterable[int]) -> Counter[tuple[bytes, bytes]]:
        return Counter((samples[n].ids.tobytes(), samples[n].own.tobytes()) for n in rows)

    if group.rows and tokens(group.rows) == tokens(group.neutral):
        raise EmokernelError(
            f"the texts of {group.emotion!r} and the neutral ones are the same tokens: give texts"
            " or contexts that differ"
        )


def _vectors(
    recorder: Recorder,
    samples: Sequence[TokenizedText],
    groups: Sequence[Group],
    store: Store,
    options: Options,
    about: Mapping[str, Any],
    progress: bool,
) -> EmotionVectors:
    """Read the samples into the store, and make of it vectors with diagnostics and provenance."""
    counts = np.array([int(sample.own.sum()) for sample in samples])
    groups = usable(groups, counts)
    read(recorder, samples, store, options, progress=progress)
    rows = Rows(store.rows, counts if options.tokens == "each" else (counts > 0).astype(int))
    directions = vectors_of(rows, groups, options, progress=progress)
    check(directions, groups, store.lengths @ rows.weights / rows.weights.sum(), options)
    training, heldout = split(groups, options.heldout, options.seed)
    measurable = all(group.rows and group.neutral for group in [*training, *heldout])
    num_layers = len(recorder.decoder.blocks)
    tensor = torch.zeros(num_layers, len(groups), rows.width)
    tensor[recorder.layers] = torch.from_numpy(directions).float()
    diagnostics = diagnose(
        directions,
        vectors_of(rows, training, options) if measurable else None,
        rows,
        store.lengths,
        heldout,
        layers=recorder.layers,
        num_layers=num_layers,
        site=options.site,
    )
    provenance = {
        "method": options.method,
        "options": dict(vars(options)),
        **about["model"],
        "data": about["data"],
        "counts": count_texts(groups, counts),
        "versions": versions(),
    }
    names = tuple(group.emotion for group in groups)
    return EmotionVectors(names, tensor, options.site, provenance, diagnostics)


@contextmanager
def _store(
    folder: str | PathLike[str] | None, settings: Mapping[str, Any], restart: bool
) -> Iterator[Store]:
    """The store in ``folder``, or in one for the time being."""
    temporary = tempfile.TemporaryDirectory(prefix="emokernel-") if folder is None else None
    with temporary or nullcontext(folder) as path:
        yield Store(Path(path), settings, restart=restart)
