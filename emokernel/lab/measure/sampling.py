"""Sampling of a batch: contexts of any length in, token ids of the answers out.

Every answer has random numbers of its own, so it depends on its context and its seed alone, not on
what else is in the batch; under equal seeds, answers differ by what was asked for and by nothing
else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.errors import SteeringError
from emokernel.lab.measure.decoding import Decoding
from emokernel.lab.measure.nucleus import Nucleus, Sampling
from emokernel.patch.decoder import evaluating
from emokernel.requests import Request
from emokernel.steering import Steering

__all__ = ["Sampling", "Writing", "sample"]

# Rows are taken out of a batch when so large a share of it has ended.
_ENDED = 1 / 8


def sample(
    model: nn.Module,
    tokenizer: Tokenizer,
    contexts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seeds: Sequence[Sequence[int]],
    steering: Steering | None = None,
    requests: Sequence[Request | None] | None = None,
) -> list[list[int]]:
    """The token ids of one answer to each context (token ids), without what ends it.

    The arguments are those of `Writing`, whatever mode the model is in. EmokernelError for a model
    that gives NaN.
    """
    answers: list[list[int]] = [[] for _ in contexts]
    with evaluating(model):
        writing = Writing(
            model, tokenizer, contexts, sampling, seeds=seeds, steering=steering, requests=requests
        )
        for tokens in writing:
            for row, token in tokens.items():
                answers[row].append(token)
    return answers


class Writing:
    """Answers that are being written: an iterator over the tokens of each step.

    A step gives ``{row: token}`` of the answers that go on, without what ends one: a row that is
    not there has ended. The last step is that of ``max_new_tokens``, or the one in which the last
    answers ended, which is empty. A step holds nothing of the thread that runs it, so each may run
    in another one. What fails ends the writing.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        contexts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seeds: Sequence[Sequence[int]],
        steering: Steering | None = None,
        requests: Sequence[Request | None] | None = None,
        one_shape: bool = False,
    ) -> None:
        """``contexts``: token ids, at least one of each; the model is in evaluation mode.

        ``seeds``: for each context the non-negative integers that its random numbers come from.
        ``requests``: what each is to feel, by ``steering``, the steering of the model. Of the
        model's generation_config only the end tokens count, together with the tokenizer's.
        ``one_shape``: whether all rows are in all forwards, those that are alike and those that
        have ended too. The bits of a matrix product depend on its shape, so that only then no
        answer depends on what is asked for in the other rows.
        """
        self._ends = torch.tensor(_ends(model, tokenizer), dtype=torch.long)
        filler = tokenizer.pad_token_id
        if filler is None:
            filler = next(iter(self._ends.tolist()), 0)
        self._nucleus, self._steps = Nucleus(seeds, sampling), sampling.max_new_tokens
        self._decoding: Decoding | None = Decoding(
            model, contexts, filler, steering, requests, apart=one_shape
        )
        self._all, self._step = one_shape, 0
        self._rows = torch.arange(len(contexts))  # of the answers that have not been taken out
        self._going = torch.ones(len(contexts), dtype=torch.bool)
        self._tokens: Tensor | None = None  # of the step before

    def __iter__(self) -> Iterator[dict[int, int]]:
        return self

    @torch.no_grad()
    def __next__(self) -> dict[int, int]:
        """The tokens of the next step; EmokernelError for a model that gives NaN."""
        if self._decoding is None:
            raise StopIteration
        decoding, self._decoding = self._decoding, None
        scores = decoding.begin() if self._tokens is None else decoding.step(self._tokens)
        self._tokens = tokens = self._nucleus.choose(scores, self._step, self._rows)
        known = tokens.cpu()
        self._going &= ~torch.isin(known, self._ends)
        rows, going = self._rows, self._going
        self._step += 1
        if self._step < self._steps and going.any():
            if not self._all and (~going).sum() >= _ENDED * len(going):
                self._tokens = tokens[going.to(tokens.device)]
                decoding.keep(going.nonzero().flatten())
                self._rows, self._going = rows[going], going[going]
            self._decoding = decoding
        return dict(zip(rows[going].tolist(), known[going].tolist(), strict=True))

    @property
    def reads_all(self) -> bool:
        """Whether the next step reads all texts again: the first, and each of a model that keeps
        no cache. Such a one can only be changed with ``again``.
        """
        return self._decoding is not None and self._decoding.reads_all

    def change(self, requests: Sequence[Request | None], again: bool = False) -> None:
        """From the next step on ``requests``, as many as contexts; for between two steps.

        They are asked of the tokens from the next one on: what was read and written before stays as
        it is, unless it is to be read ``again`` under them (`Decoding.change`): by the answers that
        change, whose bits then depend on how many do. Harmless once the last step was made.
        SteeringError before the first one, and for a model that keeps no cache unless ``again``.
        """
        if self._decoding is None:
            return
        if self._tokens is None:
            raise SteeringError("nothing was read yet: begin with these requests")
        self._decoding.change([requests[row] for row in self._rows.tolist()], again)

    def close(self) -> None:
        """End it: there are no further steps, and what it held is free."""
        self._decoding = self._tokens = None


def _ends(model: nn.Module, tokenizer: Tokenizer) -> list[int]:
    """The tokens that end an answer: the model's and the tokenizer's, as either may lack one."""
    config = getattr(model, "generation_config", None)
    named = getattr(config, "eos_token_id", None), tokenizer.eos_token_id
    ends = [end for ids in named if ids is not None for end in np.ravel(ids).tolist()]
    return list(dict.fromkeys(ends))
