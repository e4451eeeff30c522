"""What is right: the transformers model, patched by emokernel, with the same vectors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from real_vllm.cases import Case, Text
from transformers import AutoModelForCausalLM

import emokernel


class Reference:
    """A patched model in float32; ``choices`` are those of `emokernel.patch`."""

    def __init__(self, folder: Path, vectors: emokernel.EmotionVectors, **choices: Any) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.model.generation_config.eos_token_id = None  # texts do not end before their time
        self.steering = emokernel.patch(self.model, vectors, **choices)

    @torch.inference_mode()
    def texts(self, cases: Sequence[Case], steps: int) -> list[Text]:
        """Greedy texts of exactly ``steps`` tokens; prompts of one length share a batch."""
        found: dict[int, Text] = {}
        order = sorted(range(len(cases)), key=lambda number: len(cases[number].prompt))
        for _, group in groupby(order, key=lambda number: len(cases[number].prompt)):
            numbers = list(group)
            batch = [cases[number] for number in numbers]
            found.update(zip(numbers, self._batch(batch, steps), strict=True))
        return [found[number] for number in range(len(cases))]

    def _batch(self, cases: Sequence[Case], steps: int) -> list[Text]:
        prompts = torch.tensor([list(case.prompt) for case in cases])
        with self.steering.requests([case.request() for case in cases]):
            output = self.model.generate(
                prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=steps,
                do_sample=False, output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
        best = torch.stack(output.logits, 1).topk(2).values
        margins = (best[..., 0] - best[..., 1]).tolist()
        said = output.sequences[:, prompts.shape[1] :].tolist()
        return [Text(tokens, margins=gaps) for tokens, gaps in zip(said, margins, strict=True)]
