"""A model's own answers: sampled in batches, and kept in the store as they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from emokernel.errors import EmokernelError
from emokernel.patch.decoder import device_of, evaluating
from emokernel.vectors.extraction.options import Sampling
from emokernel.vectors.extraction.reading import batches, special_ids
from emokernel.vectors.extraction.recording import Sample
from emokernel.vectors.extraction.samples import Group
from emokernel.vectors.extraction.store import Store


@dataclass(frozen=True)
class Prompt:
    """A query in its context, for an emotion or (None) without one."""

    query: str
    emotion: str | None
    ids: tuple[int, ...]


def prompts_of(
    tokenizer: Any, queries: Mapping[str, Sequence[str]], conditioning: Any
) -> tuple[list[Prompt], list[Group]]:
    """The prompts for ``queries`` of each emotion, and their groups, paired by query.

    The neutral prompt of a query does not name an emotion: emotions with a query in common share
    it, and its answer.
    """
    numbers: dict[tuple[str, str | None], int] = {}
    prompts: list[Prompt] = []

    def number_of(query: str, emotion: str | None) -> int:
        key = query, emotion
        if key not in numbers:
            if emotion is None:
                context = conditioning.neutral(query, tokenizer)
            else:
                context = conditioning.emotional(query, emotion, tokenizer)
            ids = tokenizer(context, add_special_tokens=conditioning.adds_special_tokens)
            numbers[key] = len(prompts)
            prompts.append(Prompt(query, emotion, tuple(ids["input_ids"])))
        return numbers[key]

    groups = [
        Group(
            emotion,
            [number_of(query, emotion) for query in of],
            [number_of(query, None) for query in of],
            paired=True,
        )
        for emotion, of in queries.items()
    ]
    return prompts, groups


def answer(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    store: Store,
    sampling: Sampling,
    *,
    seed: int,
    batch_tokens: int,
    batch_size: int | None,
    progress: bool,
) -> list[Sample]:
    """The prompts with their answers; those that the store lacks are sampled into it.

    An answer ends before the first end-of-text token; special tokens within are not its own.
    Each batch has a seed of its own, so that an interrupted run goes on to the same answers.
    """
    lengths = [len(prompt.ids) + sampling.max_new_tokens for prompt in prompts]
    known = store.answers()
    with tqdm(
        total=len(prompts), initial=len(known), desc="answering", unit="answer",
        disable=not progress,
    ) as bar:  # fmt: skip
        all_batches = batches(lengths, range(len(prompts)), batch_tokens, batch_size)
        for number, batch in enumerate(all_batches):
            if all(prompt in known for prompt in batch):
                continue
            chosen = [prompts[prompt] for prompt in batch]
            ids = _generate(model, tokenizer, chosen, sampling, seed=1_000_003 * seed + number)
            lines = {
                prompt: {
                    "prompt": prompt,
                    "emotion": of.emotion,
                    "query": of.query,
                    "answer": tokenizer.decode(tokens),
                    "tokens": tokens,
                }
                for prompt, of, tokens in zip(batch, chosen, ids, strict=True)
            }
            store.append(lines.values())
            bar.update(len(lines.keys() - known.keys()))
            known |= lines
    special = special_ids(tokenizer)
    return [
        _sample(prompt, known[number]["tokens"], special) for number, prompt in enumerate(prompts)
    ]


def _sample(prompt: Prompt, tokens: Iterable[int], special: np.ndarray) -> Sample:
    tokens = np.array(list(tokens), dtype=np.int32)
    own = np.concatenate([np.zeros(len(prompt.ids), dtype=bool), ~np.isin(tokens, special)])
    return Sample(np.concatenate([np.array(prompt.ids, dtype=np.int32), tokens]), own)


def _generate(
    model: nn.Module, tokenizer: Any, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int
) -> list[list[int]]:
    """The token ids of one answer to each prompt, without what ends it."""
    embeddings = model.get_input_embeddings()
    device = device_of(embeddings, embeddings.weight)
    ends = _ends(model, tokenizer)
    filler = next((each for each in (tokenizer.pad_token_id, *ends) if each is not None), 0)
    longest = max(len(prompt.ids) for prompt in prompts)
    ids = torch.full((len(prompts), longest), filler, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # on the left, whatever side the tokenizer pads on
        ids[row, longest - len(prompt.ids) :] = torch.tensor(prompt.ids)
        mask[row, longest - len(prompt.ids) :] = 1
    chances = {"do_sample": False}
    if sampling.temperature:
        chances = {
            "do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p,
            "top_k": 0,
        }  # fmt: skip
    with _seeded(seed), torch.no_grad(), evaluating(model):
        output = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=filler,
            **({"eos_token_id": ends} if ends else {}),
            **chances,
        )
    answers = output[:, longest:].tolist()
    return [
        tokens[: next((at for at, token in enumerate(tokens) if token in ends), len(tokens))]
        for tokens in answers
    ]


def _ends(model: nn.Module, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the model's own, else the tokenizer's."""
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if ends is None:
        ends = tokenizer.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


class _seeded:
    """The random numbers of torch begin with ``seed``; as they were before, afterwards."""

    def __init__(self, seed: int) -> None:
        self._seed = seed % 2**63

    def __enter__(self) -> None:
        self._fork = torch.random.fork_rng()
        self._fork.__enter__()
        torch.manual_seed(self._seed)

    def __exit__(self, *error: object) -> None:
        self._fork.__exit__(*error)


def check_answers(groups: Sequence[Group], samples: Sequence[Sample]) -> dict[str, int]:
    """For each emotion, the pairs in which an answer is empty; EmokernelError if all are."""
    empty = {
        group.emotion: sum(
            not (samples[a].own.any() and samples[b].own.any())
            for a, b in zip(group.rows, group.neutral, strict=True)
        )
        for group in groups
    }
    for group in groups:
        if empty[group.emotion] == len(group.rows):
            raise EmokernelError(
                f"the model answered nothing to any of the {len(group.rows)} queries for"
                f" {group.emotion!r}: try another conditioning, more max_new_tokens, or give texts"
            )
    return empty
