"""Policy gradient: what a judge reads in the texts of the steered model is made stronger.

REINFORCE (Williams 1992, Machine Learning 8:229-256) on the vectors alone, see docs/training.md. A
text counts by the judge's probability of the emotion, less the mean and over the standard deviation
of the texts of that emotion.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.errors import EmokernelError
from emokernel.lab.measure.classifiers import TextClassifier, columns_of, emotion_probabilities
from emokernel.lab.measure.encoding import TokenizedText, input_device, padded
from emokernel.lab.measure.sampling import Sampling, sample
from emokernel.requests import Request
from emokernel.steering import Steering

# Added to the standard deviation of the probabilities, so that equal texts give no huge weights.
_LEAST_DEVIATION = 0.03


class PolicyGradient:
    """A loss for `learn_vectors`: minus the judge's opinion, plus ``penalty`` times the divergence.

    ``requests``: how each emotion is steered, ``{"joy": Request("joy", 1.5)}``. ``texts``: of each
    emotion in a step, behind as many of the ``openings``, the same for all emotions. ``penalty``:
    what one nat per token of divergence costs, in standard deviations of the judge's probability
    times nats of log-likelihood per token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        steering: Steering,
        requests: Mapping[str, Request],
        *,
        judge: TextClassifier,
        openings: Sequence[str],
        texts: int = 32,
        penalty: float = 0.05,
        sampling: Sampling | None = None,
        seed: int = 0,
    ) -> None:
        """EmokernelError for fewer openings than texts, or an emotion that the judge lacks."""
        if len(openings) < texts or texts < 2:
            raise EmokernelError(
                f"a step needs {texts} different openings, and 2 or more: got {len(openings)}"
            )
        for name in requests:
            columns_of(judge, name)
        self._model, self._tokenizer, self._steering = model, tokenizer, steering
        self._names, self._requests = list(requests), list(requests.values())
        self._judge, self._openings, self._texts = judge, list(openings), texts
        self._penalty, self._seed = penalty, seed
        self._sampling = sampling or Sampling(24)
        self._random = random.Random(seed)
        self.probability: float | None = None

    @property
    def made_from(self) -> dict[str, Any]:
        """What it is, for the provenance of the vectors."""
        return {
            "method": "policy gradient",
            "judge": self._judge.name,
            "judge_digest": self._judge.digest(),
            "openings": len(self._openings),
            "texts": self._texts,
            "penalty": self._penalty,
            "sampling": asdict(self._sampling),
            "seed": self._seed,
            "requests": {n: asdict(r) for n, r in zip(self._names, self._requests, strict=True)},
        }

    def __call__(self, step: int) -> Tensor:
        """The loss of one step; ``probability`` is the judge's mean for its texts afterwards."""
        openings = self._random.sample(self._openings, self._texts) * len(self._names)
        requests = [request for request in self._requests for _ in range(self._texts)]
        contexts = self._tokenizer(openings)["input_ids"]
        seeds = [(self._seed, step, row) for row in range(len(contexts))]
        answers = sample(
            self._model, self._tokenizer, contexts, self._sampling, seeds=seeds,
            steering=self._steering, requests=requests,
        )  # fmt: skip
        worth = self._worth([c + a for c, a in zip(contexts, answers, strict=True)])
        return self._loss(contexts, answers, requests, worth)

    def _worth(self, ids: Sequence[list[int]]) -> Tensor:
        """What each text counts, ``[rows]``."""
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        read = self._judge.probabilities(texts).view(len(self._names), self._texts, -1)
        own = torch.stack(
            [
                emotion_probabilities(self._judge, probabilities, name)
                for name, probabilities in zip(self._names, read, strict=True)
            ]
        )
        self.probability = own.mean().item()
        mean, deviation = own.mean(1, keepdim=True), own.std(1, keepdim=True)
        return ((own - mean) / (deviation + _LEAST_DEVIATION)).flatten()

    def _loss(
        self,
        contexts: Sequence[list[int]],
        answers: Sequence[list[int]],
        requests: Sequence[Request],
        worth: Tensor,
    ) -> Tensor:
        """Its mean over texts and tokens is taken emotion by emotion, their sum is the loss."""
        ids, mask, counted = self._packed(contexts, answers)
        with torch.no_grad():
            plain = self._logits(ids, mask, counted, [None] * len(ids)).log_softmax(-1)
        raw = self._logits(ids, mask, counted, requests)
        tokens = ids[:, 1:][counted][:, None]
        steered = raw.log_softmax(-1)
        # As it was sampled, but for the nucleus.
        temperature = self._sampling.temperature or 1.0
        sampled = (raw / temperature).log_softmax(-1).gather(1, tokens)[:, 0]
        divergence = (steered.exp() * (steered - plain)).sum(-1)
        text = counted.nonzero()[:, 0]
        emotion = text // self._texts
        count = torch.bincount(emotion, minlength=len(self._names))
        worth = worth.to(raw.device)[text]
        return ((self._penalty * divergence - worth * sampled) / count[emotion]).sum()

    def _packed(
        self, contexts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """ids and mask ``[rows, n]``, and which of the tokens from the second on were sampled."""
        end, most = self._tokenizer.eos_token_id, self._sampling.max_new_tokens
        samples = []
        for context, answer in zip(contexts, answers, strict=True):
            ids = np.array(context + answer + [end] * (end is not None and len(answer) < most))
            samples.append(TokenizedText(ids, np.arange(len(ids)) >= len(context)))
        texts = padded(samples).to(input_device(self._model))
        return texts.ids, texts.mask, texts.counted[:, 1:]

    def _logits(
        self, ids: Tensor, mask: Tensor, counted: Tensor, requests: Sequence[Request | None]
    ) -> Tensor:
        """Of the next token, where that is counted, fp32 ``[tokens, vocabulary]``."""
        with self._steering.requests(requests):
            output = self._model(input_ids=ids, attention_mask=mask, use_cache=False)
        return output.logits[:, :-1][counted].float()
