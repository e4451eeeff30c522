"""vLLM's offline engine as the tests use it. Nothing of emokernel is imported here."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from real_vllm.cases import Case, Text

# Blocks of 32, the smallest on a CPU: the default of 128 caches no prompt of these tests.
OPTIONS = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": 64,
    "block_size": 32,
    "seed": 0,
}


class Engine:
    """One engine; there should be no other alive in this process."""

    def __init__(
        self, folder: Path, emotions: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """``emotions``: what stands under "emokernel" in ``additional_config``."""
        from vllm import LLM

        if emotions is not None:
            options["additional_config"] = {"emokernel": emotions}
        self.llm = LLM(str(folder), **{**OPTIONS, **options})

    def texts(
        self, cases: Sequence[Case], steps: int | Sequence[int], *, logits: int | None = None
    ) -> list[Text]:
        """What greedy decoding gives, all in one batch, exactly ``steps`` tokens each.

        ``logits``: how many of the largest to keep; wants ``logprobs_mode="raw_logits"``.
        """
        from vllm import SamplingParams

        each = [steps] * len(cases) if isinstance(steps, int) else steps
        parameters = [
            SamplingParams(
                temperature=0, max_tokens=length, ignore_eos=True, logprobs=logits,
                extra_args=case.extra_args(),
            )
            for case, length in zip(cases, each, strict=True)
        ]  # fmt: skip
        outputs = self.llm.generate(
            [{"prompt_token_ids": list(case.prompt)} for case in cases], parameters, use_tqdm=False
        )
        return [self._text(output) for output in outputs]

    def alone(self, cases: Sequence[Case], steps: int) -> list[Text]:
        """As `texts`, one after the other, each with nobody beside it."""
        return [self.texts([case], steps)[0] for case in cases]

    def count(self, name: str) -> int:
        """A counter of vLLM's own; wants ``disable_log_stats=False``."""
        return sum(m.value for m in self.llm.get_metrics() if m.name == f"vllm:{name}")

    @property
    def runner(self) -> Any:
        """The model runner, of an engine that lives in this process."""
        core = self.llm.llm_engine.engine_core.engine_core
        return core.model_executor.driver_worker.worker.model_runner

    def close(self) -> None:
        self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        gc.collect()

    @staticmethod
    def _text(output: Any) -> Text:
        said = output.outputs[0]
        rows = [
            sorted((token, entry.logprob) for token, entry in row.items())
            for row in said.logprobs or ()
        ]
        return Text(list(said.token_ids), output.num_cached_tokens or 0, rows)
