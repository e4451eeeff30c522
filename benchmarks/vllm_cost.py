"""What does steering cost vLLM? Its own engine, with the plugin and as it is without it.

    python benchmarks/vllm_cost.py MODEL VECTORS [--dtype D] [--rounds N] [--requests N ...]

Runs where vLLM and the plugin are installed (docs/vllm.md), eager, greedy, 24 tokens a request
behind a prompt of 32. Variants are taken in turn in one process: vLLM's own norms and runner
(absent, twice: the noise), then each form of the plugin with nothing asked for (idle), one emotion
for all requests (alike), and a mix of three vectors of its own for each (distinct). Writes JSON
lines to benchmarks/results, with ratios to "absent", paired by round.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
TOKENS, PROMPT = 24, 32
ASKED = ("idle", "alike", "distinct")
FORMS = ("exact", "fused")


class Engine:
    """One vLLM whose norms can be changed between runs."""

    def __init__(self, model: str, vectors: str, dtype: str, most: int) -> None:
        # One process, so that norms can be changed; before vLLM is imported.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from vllm import LLM

        settings = {"emokernel": {"vectors": vectors}}
        self.llm = LLM(
            model, dtype=dtype, enforce_eager=True, additional_config=settings, max_num_seqs=most,
            max_model_len=256, enable_prefix_caching=False,
        )  # fmt: skip
        core = self.llm.llm_engine.engine_core.engine_core
        self.runner = core.model_executor.driver_worker.worker.model_runner
        self.norms = [m for m in self.runner.get_model().modules() if hasattr(m, "steer_cast")]
        self.own = [type(norm).__bases__[1] for norm in self.norms]
        self.names = vectors_names(vectors)

    @contextmanager
    def form(self, name: str) -> Iterator[None]:
        """Within it, the plugin is in the form ``name``; "absent" is vLLM as it is."""
        from emokernel.engines.vllm.norms import Exact, Fused, operation
        from emokernel.ops import select

        kept = [(type(norm), norm.steer_operation) for norm in self.norms]
        methods = {name: vars(self.runner)[name] for name in ("_prepare_inputs", "_dummy_run")}
        for norm, own in zip(self.norms, self.own, strict=True):
            kind = {"exact": Exact, "fused": Fused}.get(name)
            norm.__class__ = own if kind is None else type("Steered", (kind, own), {})
            norm.steer_operation = operation(select("cpu"), name != "fused")
        if name.startswith("absent"):
            for method in methods:
                delattr(self.runner, method)
        try:
            yield
        finally:
            for norm, (kind, steer) in zip(self.norms, kept, strict=True):
                norm.__class__, norm.steer_operation = kind, steer
            vars(self.runner).update(methods)

    def run(self, form: str, asked: str, requests: int) -> None:
        """Answer ``requests`` side by side."""
        from vllm import SamplingParams

        numbers = range(requests)
        usual: Any = {"temperature": 0, "max_tokens": TOKENS, "ignore_eos": True}
        parameters = [SamplingParams(**usual, extra_args=self.extra(asked, i)) for i in numbers]
        prompts: Any = [{"prompt_token_ids": [5 + i, *range(20, 19 + PROMPT)]} for i in numbers]
        with self.form(form):
            self.llm.generate(prompts, parameters, use_tqdm=False)

    def extra(self, asked: str, number: int) -> dict[str, Any] | None:
        """What a request asks for."""
        if asked == "alike":
            return {"emotion": self.names[0]}
        if asked == "distinct":
            chosen = [self.names[(number + step) % len(self.names)] for step in range(3)]
            return {"emotion": dict(zip(chosen, (0.2 + 0.005 * number, 0.2, 0.2), strict=True))}
        return None


def vectors_names(path: str) -> tuple[str, ...]:
    """The emotions of a file."""
    from emokernel import EmotionVectors

    return tuple(EmotionVectors.load(path).names)


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("vectors")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, nargs="+", default=[1, 8, 32])
    chosen = parser.parse_args()
    from tqdm import tqdm

    from emokernel.bench import append, compare_to, measure, median, now

    began = now()
    engine = Engine(chosen.model, chosen.vectors, chosen.dtype, max(chosen.requests))
    forms = [("absent", "idle"), ("absent again", "idle"), *itertools.product(FORMS, ASKED)]
    for requests in chosen.requests:
        variants = {each: partial(engine.run, *each, requests) for each in forms}
        bar = partial(tqdm, desc=f"{requests} requests", unit="round")
        seconds = measure(variants, chosen.rounds, 1, wrap=bar)
        rows = []
        for (form, asked), taken in seconds.items():
            ratio = compare_to(seconds["absent", "idle"], taken)
            print(f"{requests:3d} requests  {form:12s} {asked:8s} {median(taken):.3f} s {ratio}")
            about = {"form": form, "asked": asked, "requests": requests, "dtype": chosen.dtype}
            work = {"tokens": TOKENS, "prompt": PROMPT, "seconds": median(taken)}
            rows.append(about | work | vars(ratio))
        append(RESULTS, "vllm-cost", rows, began)


if __name__ == "__main__":
    main()
