"""Pictures of the GPU benchmarks, drawn from their recorded results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gpu_goals import DECODE, KERNEL

from emokernel.atomic import save_figure
from emokernel.bench.harness import read
from emokernel.extras import need

_STYLES = {
    "copy": ("#8d99a6", "copy"),
    "cuda_k1": ("#1d5a94", "emokernel CUDA"),
    "triton_k1": ("#6aaed6", "emokernel Triton"),
    "cpu_k1": ("#1d5a94", "emokernel CPU"),
    "reference_k1": ("#6aaed6", "emokernel reference"),
    "compiled": ("#e8a33d", "torch.compile"),
    "hook": ("#c8553d", "plain hook"),
    "liger": ("#6b8f47", "Liger (steers nothing)"),
    "unpatched": ("#8d99a6", "unpatched"),
    "plain_hook": ("#c8553d", "plain hook"),
    "emokernel_cuda": ("#1d5a94", "emokernel CUDA"),
    "emokernel_triton": ("#6aaed6", "emokernel Triton"),
    "emokernel_cpu": ("#1d5a94", "emokernel CPU"),
    "emokernel_reference": ("#6aaed6", "emokernel reference"),
}
_LATENCY_ROWS = 256  # up to here the time of a call says more than its bandwidth


def last(path: Path, benchmark: str) -> list[dict]:
    """What the last run of ``benchmark`` measured; other benchmarks share the file."""
    rows = [row for row in read(path, last_run=False) if row["benchmark"] == benchmark]
    return [
        row
        for row in rows
        if row["date"] == rows[-1]["date"] and not {"not_run", "error"} & row.keys()
    ]


def plot_kernels(path: Path) -> list[Path]:
    """The pictures of `benchmarks/gpu_ops.py`, beside its results: those that there is data for."""
    rows = [
        row
        for row in last(path, KERNEL)
        if (row["operation"], row["dtype"], row["law"])
        == ("add_steer_rms_norm", "bf16", "preserve")
    ]
    if not rows:
        return []
    return [_bandwidth(path, rows), _latency(path, rows), _steered(path, rows)]


def plot_decode(path: Path) -> list[Path]:
    """The picture of `benchmarks/gpu_decode.py`: a decode step, eager and in a CUDA graph."""
    rows = last(path, DECODE)
    cells = list(dict.fromkeys((row["model"], row["batch"]) for row in rows))
    if not cells:
        return []
    modes = [mode for mode in ("eager", "graph") if any(row["mode"] == mode for row in rows)]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    figure, panels = _panels(1, len(modes), (6.5 * len(modes), 4.8))
    width = 0.84 / len(variants)
    for axes, mode in zip(panels[0], modes, strict=True):
        for number, variant in enumerate(variants):
            colour, label = _STYLES[variant]
            placed = [
                (cells.index((row["model"], row["batch"])), row)
                for row in rows
                if (row["mode"], row["variant"]) == (mode, variant)
            ]
            places = [cell + (number - (len(variants) - 1) / 2) * width for cell, _ in placed]
            heights = [row["ms_per_step"] for _, row in placed]
            bars = axes.bar(places, heights, 0.92 * width, color=colour, label=label)
            axes.bar_label(bars, [f"{row['ratio'][0]:.3f}" for _, row in placed], fontsize=7)
        axes.set_xticks(range(len(cells)), [f"{model}\nbatch {batch}" for model, batch in cells])
        axes.set_ylabel("ms per decode step (above the bars: times unpatched)")
        axes.set_title("eager" if mode == "eager" else "CUDA graph")
        _tidy(axes)
    _legend_below(figure, panels)
    figure.suptitle(f"Decoding with every layer and sequence steered, {_machine(rows)}")
    return [_save(figure, path, "decode")]


def _bandwidth(path: Path, rows: list[dict]) -> Path:
    """Share of a copy's bandwidth over the width, one panel for each number of rows."""
    counts = sorted({row["rows"] for row in rows})
    figure, panels = _panels(2, -(-len(counts) // 2), (15, 7.5), sharey=True)
    for axes, count in zip(panels.flat, counts, strict=False):
        for variant, series in _series(rows, "d", lambda row, n=count: row["rows"] == n):
            colour, label = _STYLES[variant]
            if variant == "copy":
                continue
            shares = [100 * row["others_over_this"]["copy"][0] for row in series]
            widths = [row["d"] for row in series]
            axes.plot(widths, shares, "o-", color=colour, label=label, markersize=4)
        axes.axhline(100, color=_STYLES["copy"][0], linestyle="--", linewidth=1)
        axes.set_title(f"{count} rows", fontsize=10)
        _over_powers(axes, sorted({row["d"] for row in rows}))
        axes.set_ylim(bottom=0)
        _tidy(axes)
    for axes in list(panels.flat)[len(counts) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("bandwidth, % of a copy (dashed)")
    for axes in panels[-1]:
        axes.set_xlabel("d")
    _legend_below(figure, panels)
    figure.suptitle(
        f"add + steer + RMSNorm, bf16, every row steered by one vector, {_machine(rows)}"
    )
    return _save(figure, path, "bandwidth")


def _latency(path: Path, rows: list[dict]) -> Path:
    """Microseconds over rows, where a call is short."""
    some = [row for row in rows if row["rows"] <= _LATENCY_ROWS]
    widths = [d for d in (4096, 8192) if any(row["d"] == d for row in some)]
    widths = widths or sorted({row["d"] for row in some})[:2]
    figure, panels = _panels(1, max(1, len(widths)), (12, 4.6), sharey=True)
    for axes, width in zip(panels.flat, widths, strict=False):
        for variant, series in _series(some, "rows", lambda row, d=width: row["d"] == d):
            colour, label = _STYLES[variant]
            times = [row["microseconds"] for row in series]
            counts = [row["rows"] for row in series]
            axes.plot(counts, times, "o-", color=colour, label=label, markersize=4)
        axes.set(title=f"d = {width}", xlabel="rows")
        _over_powers(axes, sorted({row["rows"] for row in some}))
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter("{x:g}")
        _tidy(axes)
    panels[0][0].set_ylabel("microseconds a call in a CUDA graph (log scale)")
    _legend_below(figure, panels)
    figure.suptitle(f"add + steer + RMSNorm, bf16, few rows, {_machine(rows)}")
    return _save(figure, path, "latency")


def _steered(path: Path, rows: list[dict]) -> Path:
    """Time with every row steered over time with none, of both backends."""
    backends = [
        backend
        for backend in ("cuda", "triton", "cpu", "reference")
        if any(row["variant"] == f"{backend}_k1" for row in rows)
    ]
    figure, panels = _panels(1, max(1, len(backends)), (13, 4.6), sharey=True)
    shades = ("#9ec9e2", "#6aaed6", "#2b7bba", "#1d5a94", "#123c69", "#08203a")
    for axes, backend in zip(panels.flat, backends, strict=False):
        counts = sorted({row["rows"] for row in rows})
        for count, colour in zip(counts, shades, strict=False):
            for components, line in (("k1", "o-"), ("k3", "s--"), ("k8", "^:")):
                series = sorted(
                    (row["d"], 1 / row["others_over_this"][f"{backend}_k0"][0])
                    for row in rows
                    if (row["variant"], row["rows"]) == (f"{backend}_{components}", count)
                    and f"{backend}_k0" in row["others_over_this"]
                )
                label = f"{count} rows" if components == "k1" else None
                axes.plot(*zip(*series, strict=True) if series else ([], []), line, color=colour,
                          label=label, markersize=4)  # fmt: skip
        axes.axhline(1, color=_STYLES["copy"][0], linewidth=1)
        axes.set(title=f"{backend}: one vector (solid), 3 (dashed), 8 (dotted)", xlabel="d")
        _over_powers(axes, sorted({row["d"] for row in rows}))
        _tidy(axes)
    panels[0][0].set_ylabel("time steered / time with nothing steered")
    _legend_below(figure, panels)
    figure.suptitle(f"What steering every row costs, add + steer + RMSNorm, {_machine(rows)}")
    return _save(figure, path, "steered")


def _series(
    rows: list[dict], by: str, which: Callable[[dict], bool]
) -> Iterable[tuple[str, list[dict]]]:
    """(Variant, the rows of it that ``which`` selects, sorted ``by``) of all with a style."""
    for variant in _STYLES:
        series = [row for row in rows if row["variant"] == variant and which(row)]
        series = [row for row in series if variant == "copy" or "copy" in row["others_over_this"]]
        if series:
            yield variant, sorted(series, key=lambda row: row[by])


def _panels(
    lines: int, columns: int, size: tuple[float, float], *, sharey: bool = False
) -> tuple[Any, Any]:
    """A figure of ``size`` inches and its axes ``[lines, columns]``."""
    figure = need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(lines, columns, sharey=sharey, squeeze=False)


def _over_powers(axes, ticks: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks], rotation=45, fontsize=8)
    axes.minorticks_off()


def _tidy(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)


def _legend_below(figure, panels) -> None:
    """One legend for all panels: every label once."""
    handles = {}
    for axes in panels.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=6, frameon=False,
        fontsize=9,
    )  # fmt: skip


def _machine(rows: list[dict]) -> str:
    about, versions = rows[-1]["machine"], rows[-1]["versions"]
    return f"{about['gpu'] or about['cpu']}, torch {versions['torch']}"


def _save(figure, path: Path, name: str) -> Path:
    picture = path.with_name(f"{path.stem}-{name}.png")
    save_figure(figure, picture, dpi=130)
    return picture
