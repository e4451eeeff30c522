"""The model that is checked: its own tokens, and what it computed before it was patched."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel

from emokernel.bench.decode import random_prompt
from emokernel.errors import EmokernelError
from emokernel.steering import Steering, patch
from emokernel.vectors import EmotionVectors

TEXTS = (
    "The man at the door said that he had been waiting for a long time.",
    "Nobody had told her.",
    "In the evening they walked home along the river.",
    "It was raining again, and",
)
_LONGEST, _FEWEST = 12, 3  # tokens of a prompt; different ones in each
NEW_TOKENS = 6
_DEPTH = 3  # layers, for which tolerances are said
NO_CACHE = "the model takes no past_key_values"


class Failed(Exception):
    """A check found that a promise does not hold; the message says what was measured."""


class NotRun(Exception):
    """A check cannot be made here; the message says why."""


class Subject:
    """A model, its vectors, and a batch of its own tokens in both kinds of padding.

    ``before`` are the `outputs` of the unpatched model, on the CPU; nothing else of it is kept, so
    that there is one model in memory. ``random_prompts``: whether the tokens are random ones,
    because there is no tokenizer or it does not know the words.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        vectors: EmotionVectors,
        *,
        compile_backend: str = "inductor",
    ) -> None:
        self.model, self.vectors, self.compile_backend = model, vectors, compile_backend
        own = _own_prompts(tokenizer)
        self.random_prompts = own is None
        if own is None:
            rows = random_prompt(model, len(TEXTS), _LONGEST).tolist()
            own = [row[: _LONGEST - 2 * n] for n, row in enumerate(rows)]
        self.prompts = own
        self.pad = getattr(tokenizer, "pad_token_id", None) or 0
        self.left, self.left_mask = self._padded("left")
        self.right, self.right_mask = self._padded("right")
        self.keys = list(model.state_dict())
        self.before = self.outputs()
        self.repeats = not differing(self.before, self.outputs())

    @property
    def depth_factor(self) -> float:
        """How much more than in three layers rounding may add up: the root of the ratio."""
        return max(1.0, self.vectors.num_layers / _DEPTH) ** 0.5

    @property
    def keeps_cache(self) -> bool:
        """Whether its steps can go on in a cache of keys and values that is handed to them."""
        return "past_key_values" in inspect.signature(type(self.model).forward).parameters

    def require_cache(self) -> None:
        """NotRun where the model does not `keeps_cache`, as purely recurrent ones."""
        if not self.keeps_cache:
            raise NotRun(NO_CACHE)

    @contextmanager
    def patched(self, **options: Any) -> Iterator[Steering]:
        """The model patched, until the block ends."""
        steering = patch(self.model, self.vectors, **options)
        try:
            yield steering
        finally:
            steering.unpatch()

    def emotions(self, steering: Steering, count: int = 3) -> list[str]:
        """The first ``count`` emotions (or fewer) that can be asked for as they are."""
        names = []
        for name in self.vectors.names:
            try:
                steering.set(name)
            except EmokernelError:  # no dose was found for it
                continue
            names.append(name)
            if len(names) == count:
                break
        steering.off()
        if not names:
            raise EmokernelError("none of the emotions has a strength: calibrate the vectors again")
        return names

    def _padded(self, side: str) -> tuple[Tensor, Tensor]:
        rows = [torch.tensor(prompt) for prompt in self.prompts]
        ids = pad_sequence(rows, True, self.pad, padding_side=side)
        mask = pad_sequence([torch.ones_like(row) for row in rows], True, 0, padding_side=side)
        return ids.to(self.model.device), mask.to(self.model.device)

    @torch.no_grad()
    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits ``[tokens, vocabulary]`` of the tokens that are no padding, on the CPU."""
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits[mask.bool()].cpu()

    @torch.no_grad()
    def decoded(self, ids: Tensor | None = None) -> Tensor:
        """Logits ``[batch, steps, vocabulary]`` of a prompt and a few steps in a cache, on the CPU.

        NotRun where the model takes no such cache. ``ids``: other prompts, padded as the left
        ones. The tokens of the steps are theirs too: it does not matter what the logits say.
        """
        self.require_cache()
        cache, mask, logits = DynamicCache(config=self.model.config), self.left_mask, []
        ids = self.left if ids is None else ids
        given = ids
        for step in range(NEW_TOKENS):
            output = self.model(
                input_ids=given, attention_mask=mask, past_key_values=cache, use_cache=True
            )
            logits.append(output.logits[:, -1].cpu())
            given = ids[:, -1 - step % 3, None]
            mask = torch.cat([mask, torch.ones_like(given)], 1)
        return torch.stack(logits, 1)

    def generated(self, **options: Any) -> tuple[Tensor, Tensor]:
        """(New tokens ``[batch, n]``, their logits ``[batch, n, vocabulary]``), greedily."""
        made = self.model.generate(
            self.left, attention_mask=self.left_mask, do_sample=False, num_beams=1,
            min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS, pad_token_id=self.pad,
            return_dict_in_generate=True, output_logits=True, **options,
        )  # fmt: skip
        return made.sequences[:, self.left.shape[1] :].cpu(), torch.stack(made.logits, 1).cpu()

    def outputs(self) -> dict[str, Tensor]:
        """All that is compared bit by bit; decoding in a cache where the model has one."""
        tokens, logits = self.generated()
        outputs = {
            "left padding": self.logits(self.left, self.left_mask),
            "right padding": self.logits(self.right, self.right_mask),
        }
        if self.keeps_cache:
            outputs["decoding in a cache"] = self.decoded()
        return outputs | {"generated tokens": tokens, "logits of generate": logits}


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    """The names of the outputs whose bits differ."""
    return [name for name in a if not torch.equal(a[name], b[name])]


def _own_prompts(tokenizer: Any) -> list[list[int]] | None:
    """Prompts of different lengths; None where the tokenizer (or None) does not know the words."""
    if tokenizer is None:
        return None
    ids = [tokenizer(text)["input_ids"][: _LONGEST - 2 * n] for n, text in enumerate(TEXTS)]
    lengths = {len(prompt) for prompt in ids}
    known = len(lengths) > 1 and all(len(set(prompt)) >= _FEWEST for prompt in ids)
    return ids if known else None
