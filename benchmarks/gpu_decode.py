"""What does steering cost a decode step on a GPU, in eager mode and in a CUDA graph?

    python benchmarks/gpu_decode.py [--budget SECONDS] [--output DIR]
    python benchmarks/gpu_decode.py --device cpu --smoke     the same path without a GPU, tiny

Random bf16 weights in the shapes of Llama-3-8B and Qwen2.5-1.5B, batches of 1 and 16, a static
cache that holds 64 tokens. One step is one forward of one token per sequence, on static buffers.
Variants share the weights: unpatched; the plain hook on every block; emokernel with each backend,
which steers every layer of every sequence. Eager steps are timed by the wall clock, from an idle
device to an idle device, graphs by events around a replay.

Before its time is taken, the logits of a graph have to agree with those of the eager step of the
same variant, and those of a steered variant must differ from the unpatched model's. What fails, or
cannot be captured, is recorded with its error.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from gpu_goals import DECODE, report
from gpu_plots import plot_decode
from gpu_timing import Budget, Prepared, timer_for
from torch import Tensor
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    StaticCache,
)

from emokernel import bench
from emokernel.bench.decode import add_plain_hooks
from emokernel.bench.stand_ins import random_vectors, sharing_weights
from emokernel.bench.variants import PLAIN_HOOK, UNPATCHED
from emokernel.steering import patch

RESULTS = Path(__file__).parent / "results"
BACKENDS = {"cuda": ("cuda", "triton"), "cpu": ("cpu", "reference")}
CONTEXT = 64
# Relative error of logits: a graph may use other matrix products than the eager step.
GRAPH_TOLERANCE = 2e-2
LEAST_STEERING = 1e-3
ROUNDS = {"eager": 20, "graph": 40}


def configurations(smoke: bool) -> dict[str, PreTrainedConfig]:
    """The shapes of the models, by name."""
    llama = {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    }  # fmt: skip
    qwen = {
        "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "intermediate_size": 8960, "vocab_size": 151936,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    }  # fmt: skip
    if smoke:
        tiny = {
            "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 96,
        }  # fmt: skip
        llama, qwen = llama | tiny, qwen | tiny
    return {"llama-3-8b": LlamaConfig(**llama), "qwen2.5-1.5b": Qwen2Config(**qwen)}


def random_model(config: PreTrainedConfig, device: torch.device) -> PreTrainedModel:
    """A model with random bf16 weights, made where they will stay."""
    torch.manual_seed(0)
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


class Step:
    """One decode step of a model: always the same token behind the same prompt."""

    def __init__(self, model: PreTrainedModel, batch: int, context: int = CONTEXT) -> None:
        self._model, self._context = model, context
        generator = torch.Generator().manual_seed(1)
        shape = batch, context + 1
        tokens = torch.randint(model.config.vocab_size, shape, generator=generator).to(model.device)
        self._prompt, self._token = tokens[:, :context], tokens[:, context:].clone()
        self._cache = StaticCache(config=model.config, max_cache_len=2 * context)
        self._forward(self._prompt)
        # The layers count their tokens, each in a tensor of its own; as views of one they can all
        # be set back by one kernel.
        layers = self._cache.layers
        self._lengths = torch.full((len(layers),), context, device=model.device)
        for layer, length in zip(layers, self._lengths.unbind(), strict=True):
            layer.cumulative_length = length

    def _forward(self, tokens: Tensor) -> Tensor:
        output = self._model(
            input_ids=tokens, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        return output.logits[:, -1]

    def __call__(self) -> Tensor:
        """The logits ``[batch, vocabulary]`` of the step."""
        self._lengths.fill_(self._context)
        return self._forward(self._token)


def variants(
    model: PreTrainedModel, backends: Sequence[str]
) -> tuple[dict[str, PreTrainedModel], dict[str, str]]:
    """The models to compare, around the same weights, and why those that are missing are."""
    vectors = random_vectors(model)
    emotion = vectors.names[0]
    models: dict[str, PreTrainedModel] = {UNPATCHED: model}
    models[PLAIN_HOOK] = sharing_weights(model)
    add_plain_hooks(models[PLAIN_HOOK], vectors[emotion])
    errors = {}
    for backend in backends:
        name = f"emokernel_{backend}"
        try:
            steered = sharing_weights(model)
            patch(steered, vectors, backend=backend).set(emotion)
            models[name] = steered
        except Exception as error:
            errors[name] = f"{type(error).__name__}: {error}"
    return models, errors


def difference(logits: Tensor, reference: Tensor) -> float:
    """Relative error of logits, by norm; infinite if they are not finite."""
    logits, reference = logits.float(), reference.float()
    error = ((logits - reference).norm() / reference.norm()).item()
    return error if error == error else float("inf")


class Decoding:
    """Every variant of a model at one batch size: prepared, checked and measured."""

    def __init__(self, models: dict[str, PreTrainedModel], batch: int, device: torch.device):
        self._timer = timer_for(device)
        self._steps: dict[str, Step] = {}
        self._graphs: dict[str, Prepared] = {}
        self.errors: dict[tuple[str, str], str] = {}
        self.checks: dict[str, dict[str, object]] = {}
        unpatched: Tensor | None = None
        for name, model in models.items():
            try:
                step = Step(model, batch)
                logits = step().clone()
                if unpatched is None:
                    unpatched = logits
                changed = difference(logits, unpatched)
                if name != UNPATCHED and not LEAST_STEERING < changed < float("inf"):
                    raise RuntimeError(f"steering changes the logits by {changed:.2g}")
            except Exception as error:
                self._fail(name, error, "eager", "graph")
                continue
            self._steps[name] = step
            self.checks[name] = {"logits_against_unpatched": changed}
            try:
                self._capture(name, step, logits)
            except Exception as error:
                self._fail(name, error, "graph")

    def _capture(self, name: str, step: Step, logits: Tensor) -> None:
        graph = self._timer.prepare([step])
        graph.result.fill_(float("nan"))  # the replay has to write it
        graph.run()
        self._timer.synchronize()
        result = graph.result
        error = difference(result, logits)
        if not error <= GRAPH_TOLERANCE:
            raise RuntimeError(f"the graph's logits differ from the eager ones by {error:.2g}")
        self.checks[name]["graph_against_eager"] = error
        self.checks[name]["graph_bits_of_eager"] = torch.equal(result, logits)
        self._graphs[name] = graph

    def _fail(self, name: str, error: Exception, *modes: str) -> None:
        for mode in modes:
            self.errors[name, mode] = f"{type(error).__name__}: {error}"

    def milliseconds(self, mode: str, rounds: int) -> dict[str, list[float]]:
        """Of every step measured, by variant."""
        if mode == "graph":
            timed = {name: graph.seconds for name, graph in self._graphs.items()}
        else:
            timed = {name: self._eager(step) for name, step in self._steps.items()}
        seconds = bench.measure(timed, rounds, warmup=3, clock=lambda call: call())
        return {name: [1e3 * s for s in times] for name, times in seconds.items()}

    def _eager(self, step: Step) -> Callable[[], float]:
        def seconds() -> float:
            self._timer.synchronize()
            start = time.perf_counter()
            step()
            self._timer.synchronize()
            return time.perf_counter() - start

        return seconds


def compare(
    name: str,
    models: dict[str, PreTrainedModel],
    errors: dict[str, str],
    batch: int,
    device: torch.device,
    rounds: dict[str, int],
) -> list[dict[str, object]]:
    """The results of every variant of a model at one batch size, in both modes."""
    rows: list[dict[str, object]] = []
    with torch.inference_mode():
        decoding = Decoding(models, batch, device)
        for mode in ("eager", "graph"):
            times = decoding.milliseconds(mode, rounds[mode])
            for variant in [*models, *errors]:
                row = {**_about(name, batch), "mode": mode, "variant": variant}
                failed = errors.get(variant) or decoding.errors.get((variant, mode))
                if failed:
                    rows.append({**row, "error": failed})
                    continue
                row |= {"ms_per_step": bench.median(times[variant]), "rounds": rounds[mode]}
                if UNPATCHED in times:
                    against = bench.compare_to(times[UNPATCHED], times[variant])
                    row["ratio"] = [against.ratio, against.low, against.high]
                else:
                    row["error"] = "there is no unpatched step to compare it to"
                rows.append({**row, **decoding.checks[variant]})
    return rows


def _about(name: str, batch: int) -> dict[str, object]:
    return {
        "benchmark": DECODE,
        "model": name,
        "dtype": "bf16",
        "batch": batch,
        "context": CONTEXT,
    }


def run(device: torch.device, smoke: bool, budget: Budget, rows: list[dict[str, object]]) -> None:
    """Fills ``rows``, with what the budget did not reach recorded as not run."""
    backends = BACKENDS[device.type]
    rounds = dict.fromkeys(ROUNDS, 2) if smoke else ROUNDS
    names = configurations(smoke)
    left = [(name, batch) for name in names for batch in ((1, 2) if smoke else (1, 16))]
    progress = tqdm(total=len(left), mininterval=2)
    reason: str | None = "the run ended early"
    try:
        # Both now: the GPU's random numbers do not survive a capture that fails.
        models = {name: random_model(config, device) for name, config in names.items()}
        patched: dict[str, tuple[dict[str, PreTrainedModel], dict[str, str]]] = {}
        while left:
            reason = budget.refusal()
            if reason is not None:
                break
            reason = "the run ended early"
            name, batch = left[0]
            progress.set_description(f"{name}, batch {batch}")
            if name not in patched:
                patched[name] = variants(models[name], backends)
            rows += compare(name, *patched[name], batch, device, rounds)
            left.pop(0)
            progress.update()
            gc.collect()  # the graphs of this batch, before others are captured
    finally:
        progress.close()
        rows += [
            {**_about(name, batch), "mode": mode, "variant": variant, "not_run": reason}
            for name, batch in left
            for mode in ROUNDS
            for variant in (UNPATCHED, PLAIN_HOOK, *(f"emokernel_{b}" for b in backends))
        ]


def table(rows: Sequence[dict[str, object]]) -> str:
    """One line for each variant."""
    lines = []
    for row in rows:
        at = f"{row['model']:<13} batch {row['batch']:<3} {row['mode']:<6} {row['variant']:<17}"
        why = row.get("error") or row.get("not_run")
        if why is not None:
            lines.append(f"{at} {str(why).splitlines()[0][:120]}")
            continue
        ratio, low, high = row["ratio"]
        line = f"{at} {row['ms_per_step']:8.3f} ms {ratio:7.3f} [{low:.3f}, {high:.3f}] x unpatched"
        if row["mode"] == "graph":
            same = row["graph_bits_of_eager"]
            line += "  bits of eager" if same else f"  {row['graph_against_eager']:.1e} from eager"
        lines.append(line)
    return "\n".join(lines)


def _stop(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, records, draws and prints; 0 if it got that far, whatever became of the goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=BACKENDS, default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny models, to try the path")
    parser.add_argument("--budget", type=float, default=90, help="seconds for everything")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    budget = Budget(options.budget)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU; --device cpu --smoke tries the path without one")
    bench.machine()  # before anything can fail
    rows: list[dict[str, object]] = []
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        run(device, options.smoke, budget, rows)
    finally:
        signal.signal(signal.SIGTERM, before)
        if rows:
            path = bench.append(options.output, "gpu", rows)
            print(table(rows), report(rows), sep="\n\n")
            pictures = ", ".join(map(str, plot_decode(path)))
            print(f"\nappended {len(rows)} rows to {path}; plot: {pictures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
