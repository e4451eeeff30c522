"""How far steering moves a model: KL divergence of its next-token distributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from emokernel.errors import EmokernelError
from emokernel.lab.measure.encoding import MOST_LOGITS, Encoded, input_device
from emokernel.patch.decoder import evaluating
from emokernel.requests import Request
from emokernel.steering import Steering

# Rows of a batch, so many different requests at most.
MOST_REQUESTS = 512


@torch.no_grad()
def divergences(
    model: PreTrainedModel,
    steering: Steering,
    texts: Encoded,
    requests: Sequence[Request],
    progress: Callable[[int], None] = lambda rows: None,
) -> Tensor:
    """``[requests]``: mean KL(steered || unsteered) in nats over the counted tokens of ``texts``.

    Both distributions are those of the next token behind each counted token, the texts being given
    (teacher forcing). Rows of different requests share batches. ``progress`` is told how many rows
    (texts x requests) were computed. EmokernelError if the texts have no token that counts.
    """
    if not texts.counted.any():
        raise EmokernelError(
            "there is no text to measure a divergence on: let the model write more, or give other"
            " openings"
        )
    texts = texts.to(input_device(model))
    ids, mask, counted = texts.ids, texts.mask, texts.counted
    with evaluating(model):
        with steering.requests([None] * len(ids), attention_mask=mask):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        unsteered = F.log_softmax(logits.float(), -1)
        rows = [(text, number) for number in range(len(requests)) for text in range(len(ids))]
        size = min(max(1, MOST_LOGITS // unsteered[0].numel()), MOST_REQUESTS)
        sums = torch.zeros(len(requests), dtype=torch.float64)
        for start in range(0, len(rows), size):
            of_text, of_request = map(list, zip(*rows[start : start + size], strict=True))
            chosen = [requests[number] for number in of_request]
            with steering.requests(chosen, attention_mask=mask[of_text]):
                logits = model(
                    input_ids=ids[of_text], attention_mask=mask[of_text], use_cache=False
                ).logits
            steered = F.log_softmax(logits.float(), -1)
            kl = F.kl_div(unsteered[of_text], steered, reduction="none", log_target=True).sum(-1)
            kl = (kl * counted[of_text]).sum(1).double().cpu()
            sums.index_add_(0, torch.tensor(of_request), kl)
            progress(len(of_text))
    return sums / counted.sum().item()
