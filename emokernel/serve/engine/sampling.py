"""How the requests of one manager of continuous batching are sampled: each in its own way, with
random numbers of its own.

transformers samples all of them alike, with one generator: what a request would say then depends on
its neighbours. Here it depends on its seed; the numbers are those of `Nucleus`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emokernel.lab.measure.nucleus import NO_TOKEN, Choice, Nucleus, drawn, drawn_by_order
from emokernel.replaced import Around


class Drawing:
    """The choice of one request, and its random numbers."""

    def __init__(self, choice: Choice, seed: int | None) -> None:
        self.choice, self._random = choice, np.random.default_rng(seed)

    def uniforms(self) -> np.ndarray:
        """Those of its next token, fp32 ``[Nucleus.DRAWS + 1]``."""
        return self._random.random(Nucleus.DRAWS + 1, np.float32)


_GREEDY = Drawing(Choice(), 0)


class RowSampling:
    """Chooses the next tokens of a manager's requests.

    What a step needs is decided on the host, where its batch is prepared, and written to tensors of
    fixed address, one set for each set of inputs that the manager works with in turn.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, Drawing] = {}
        # The requests whose logits were none, and why.
        self.problems: dict[str, str] = {}
        self._ids: list[str] = []
        self._inputs: Any = None
        self._captured = False
        self._tensors: list[Tensor] = []

    def add(self, request_id: str, drawing: Drawing) -> None:
        """A request is about to be added to the manager."""
        self._by_id[request_id] = drawing

    def end(self, request_id: str) -> None:
        """It is over; harmless the second time."""
        self._by_id.pop(request_id, None)
        self.problems.pop(request_id, None)

    def attach(self, processor: Any) -> None:
        """Sample for ``processor`` from now on."""
        self._inputs, runner = processor.inputs_and_outputs, processor.model_runner
        self._captured = runner.pad_inputs
        # temperature, top_p, top_k and the uniforms of each row, fp32.
        shape = processor.max_batch_tokens, 3 + Nucleus.DRAWS + 1
        pairs = len(getattr(self._inputs, "io_pairs", "1"))
        device = processor.model_device
        self._tensors = [torch.zeros(shape, device=device) for _ in range(pairs)]
        Around(self._inputs, "prepare_batch_tensors", self._prepare).install()
        Around(runner, "_sample", self._sample).install()

    def _prepare(
        self, original: Callable, requests_in_batch: Sequence[Any], *args: Any, **kwargs: Any
    ) -> object:
        ids = [each.state.request_id for each in requests_in_batch if each.has_new_token]
        rows = np.zeros((len(ids), self._tensor.shape[1]), np.float32)
        for row, request_id in zip(rows, ids, strict=True):
            drawing = self._by_id.get(request_id, _GREEDY)
            choice = drawing.choice
            row[:3] = choice.temperature, choice.top_p, choice.top_k
            if choice.temperature:
                row[3:] = drawing.uniforms()
        self._ids = ids
        self._tensor[: len(ids)].copy_(torch.from_numpy(rows))
        return original(requests_in_batch, *args, **kwargs)

    @property
    def _tensor(self) -> Tensor:
        return self._tensors[getattr(self._inputs, "current_pair", 0)]

    def _sample(self, _: Callable, scores: Tensor, output_ids: Tensor) -> None:
        """In the place of the runner's own; scores ``[1, rows, vocabulary]``."""
        # Behind the rows of tokens that are wanted there may be others, of prompts half read.
        scores = scores[0] if self._captured else scores[0, : len(self._ids)]
        said = self._tensor[: len(scores)]
        tokens = in_place(scores, said) if self._captured else self._on_host(scores, said)
        output_ids[0, : len(tokens)].copy_(tokens)

    def _on_host(self, scores: Tensor, said: Tensor) -> Tensor:
        bad = ~scores.amax(-1).isfinite()
        if bad.any():
            for row in bad.nonzero().flatten().tolist():
                if self._ids[row] in self._by_id:  # and not over meanwhile
                    self.problems[self._ids[row]] = NO_TOKEN
            scores = scores.masked_fill(bad[:, None], 0.0)
        tokens = scores.argmax(-1)
        sampled = said[:, 0].nonzero().flatten()
        if len(sampled):
            tokens[sampled] = drawn_rows(scores[sampled], said[sampled])
        return tokens


def drawn_rows(scores: Tensor, said: Tensor) -> Tensor:
    """The tokens ``[n]`` of rows with a temperature, which ``said`` ``[n, 8]`` has first."""
    top_k = said[:, 2].long()
    for row in top_k.nonzero().flatten().tolist():
        kept = min(int(top_k[row]), scores.shape[1])
        least = scores[row].topk(kept).values[-1]
        scores[row] = scores[row].masked_fill(scores[row] < least, -torch.inf)
    probabilities = (scores.float() / said[:, :1]).softmax(-1)
    return drawn(probabilities, said[:, 3:], said[:, 1])


def in_place(scores: Tensor, said: Tensor) -> Tensor:
    """The tokens ``[n]`` by tensor operations alone, as a CUDA graph can capture them."""
    temperature = said[:, :1]
    probabilities = (scores.float() / temperature.clamp(min=1e-3)).softmax(-1)
    sampled = drawn_by_order(probabilities, said[:, -1], said[:, 1], said[:, 2].long())
    return torch.where(temperature[:, 0] > 0, sampled, scores.argmax(-1))
