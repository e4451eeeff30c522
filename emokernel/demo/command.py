"""`emokernel demo`: a small language model speaks with emotion, and a judge listens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

from emokernel import patch
from emokernel.bench.decode import compare
from emokernel.bench.decode_plot import latency as plot_latency
from emokernel.bench.environment import machine, versions
from emokernel.demo import plots
from emokernel.demo.experiment import CONDITIONS, PREFIX, STEERED, UNSTEERED, Results, run
from emokernel.demo.model import load_model, openings
from emokernel.demo.vectors import load_vectors

REPORT, GENERATIONS = "report.json", "generations.jsonl"
_SHOWN = 3
CIRCUMPLEX, LATENCY = "circumplex.png", "latency.png"


def demo(
    output: Path, seeds: int = 3, chosen: Sequence[str] | None = None, rounds: int = 60
) -> None:
    """Run the demo and write report, generations and pictures into the folder ``output``.

    ``chosen`` openings, all sixty unless given; ``rounds`` of timing.
    """
    output.mkdir(parents=True, exist_ok=True)
    model, tokenizer = load_model()
    vectors = load_vectors()
    steering = patch(model, vectors)
    print(steering.report(), flush=True)
    results = run(
        model, tokenizer, steering, vectors.names, chosen or openings(), seeds=range(seeds)
    )
    steering.unpatch()
    latency = compare(model, vectors, rounds=rounds)
    _write(output, results, latency)
    print(_samples(results), _tables(results, latency), sep="\n\n")
    print(f"\nWrote {REPORT}, {GENERATIONS}, {CIRCUMPLEX} and {LATENCY} to {output}/")


def _write(output: Path, results: Results, latency: dict[str, list[float]]) -> None:
    report = {
        "emotions": results.emotions,
        "intervals_95": results.intervals,
        "fluency": results.fluency,
        "states": results.states,
        "mean_cosine": mean(state["cosine"] for state in results.states),
        "latency_ms": {name: median(times) for name, times in latency.items()},
        "redrawn": sum(one.redrawn for one in results.written),
        "machine": machine(),
        "versions": versions(),
    }
    (output / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    with (output / GENERATIONS).open("w", encoding="utf-8") as file:
        for one in results.written:
            row = {
                "emotion": one.job.name,
                "condition": one.job.condition,
                "seed": one.seed,
                "opening": one.job.opening,
                "text": one.text,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    plots.circumplex(output / CIRCUMPLEX, results.states, results.emotions)
    plot_latency(output / LATENCY, latency, f"Decoding, embedded model, {machine()['cpu']}")


def _samples(results: Results) -> str:
    """Openings unsteered and under every emotion by vector, written in mixed batches."""
    texts: dict[str, dict[str, str]] = {}
    for one in results.written:
        name = one.job.name if one.job.condition == STEERED else one.job.condition
        if one.seed == 0 and one.job.condition in (UNSTEERED, STEERED):
            texts.setdefault(one.job.opening, {})[name] = one.text
    lines = ["The same opening in one mixed batch, a different emotion for every row:"]
    for group in list(texts.values())[:: max(1, len(texts) // _SHOWN)]:
        lines += ["", *(f"  {name:<15}{text}" for name, text in group.items())]
    return "\n".join(lines)


def _tables(results: Results, latency: dict[str, list[float]]) -> str:
    lines = [
        "Judge's mean probability of the intended emotion (95 % interval over openings):",
        f"  {'':<15}{'unsteered':>22}{'by prefix':>22}{'by vector':>22}",
    ]
    columns = (UNSTEERED, PREFIX, STEERED)
    for emotion, of in sorted(results.emotions.items(), key=lambda item: -item[1][STEERED]):
        intervals = results.intervals[emotion]
        cells = [f"{of[c]:.2f} ({intervals[c][0]:.2f}..{intervals[c][1]:.2f})" for c in columns]
        lines.append(f"  {emotion:<15}" + "".join(f"{cell:>22}" for cell in cells))
    means = [mean(of[c] for of in results.emotions.values()) for c in columns]
    lines.append(f"  {'mean':<15}" + "".join(f"{value:>22.2f}" for value in means))
    lines += ["", f"Fluency: {'':<8}{'distinct-3':>12}{'perplexity':>12}  (unsteered model)"]
    for condition in CONDITIONS:
        of = results.fluency[condition]
        lines.append(f"  {condition:<15}{of['distinct_3']:>12.3f}{of['perplexity']:>12.1f}")
    lines += ["", "12 states of the circumplex: cosine between asked for and read by the judge:"]
    lines += [
        f"  valence {s['valence']:+.2f} arousal {s['arousal']:+.2f}   {s['cosine']:+.2f}"
        for s in results.states
    ]
    lines.append(
        f"  mean                          {mean(s['cosine'] for s in results.states):+.2f}"
    )
    lines += ["", f"Time per token of the embedded model on {machine()['cpu']}:"]
    reference = median(latency["unpatched"])
    lines += [
        f"  {name:<15}{median(times):>8.3f} ms {median(times) / reference:>8.2f}x"
        for name, times in latency.items()
    ]
    return "\n".join(lines)
