"""The goals of the GPU benchmarks, judged by what was measured and by nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Row = Mapping[str, object]

KERNEL, EAGER, HOST, DECODE = "gpu_kernel", "gpu_eager", "gpu_host", "gpu_decode"
# The host's cost of one call of the C++ operation: what `HOST` rows call it.
HOST_OP = "cuda op"

BIG_SHAPES = ((8192, 4096), (8192, 8192))
SMALL_ROWS = (1, 8, 64)
MOST_HOOK_ROWS = 256
OF_COPY = {"cuda": 0.90, "triton": 0.85}  # of the bandwidth of a copy of the same bytes
OVER_UNSTEERED = {"cuda_k1": 1.03, "cuda_k3": 1.08}  # times the same kernel with nothing steered
ABOVE_UNSTEERED_US = 0.5
OVER_COMPILED = 1.02
FASTER_THAN_HOOK = 10.0
HOST_US = 3.0
GRAPH_STEP = 1.01  # times the unpatched step in a CUDA graph
EAGER_STEP = 1.0


@dataclass(frozen=True)
class Goal:
    """One goal: what is asked, what was found, and "met", "MISSED" or "not measured".

    Where only some of the places were measured and all of those meet the goal, the verdict says so.
    """

    text: str
    value: str
    verdict: str

    def __str__(self) -> str:
        return f"{self.text:<62} {self.value:<52} {self.verdict}"


def goals(rows: Sequence[Row]) -> list[Goal]:
    """Every goal that the benchmarks in ``rows`` are about."""
    kinds = {row["benchmark"] for row in rows}
    judged: list[Goal] = []
    if KERNEL in kinds:
        kernel = [
            row
            for row in rows
            if row["benchmark"] == KERNEL
            and row["operation"] == "add_steer_rms_norm"
            and (row["dtype"], row["law"]) == ("bf16", "preserve")
        ]
        judged += _kernel_goals(kernel)
        judged += _hook_goals(kernel, "in a CUDA graph")
    if EAGER in kinds:
        judged += _hook_goals([row for row in rows if row["benchmark"] == EAGER], "called eagerly")
    if HOST in kinds:
        judged.append(_host_goal([row for row in rows if row["benchmark"] == HOST]))
    if DECODE in kinds:
        judged += _decode_goals([row for row in rows if row["benchmark"] == DECODE])
    return judged


def report(rows: Sequence[Row]) -> str:
    """One line for each goal."""
    return "\n".join(str(goal) for goal in goals(rows))


def _measured(row: Row) -> bool:
    return "not_run" not in row and "error" not in row


def _shape(row: Row) -> str:
    return f"{row['rows']} x {row['d']}"


def _kernel_goals(rows: list[Row]) -> Iterator[Goal]:
    for backend, least in OF_COPY.items():
        for shape in BIG_SHAPES:
            yield _each(
                f"{backend}, {shape[0]} x {shape[1]}, K = 1: of a copy, at least {least}",
                _at(rows, f"{backend}_k1", shape),
                lambda row: row["others_over_this"]["copy"],
                lambda value, least=least: value >= least,
                worst=min,
            )
    for variant, most in OVER_UNSTEERED.items():
        for shape in BIG_SHAPES:
            yield _each(
                f"{variant}, {shape[0]} x {shape[1]}: x unsteered, at most {most}",
                _at(rows, variant, shape),
                lambda row: _inverted(row["others_over_this"]["cuda_k0"]),
                lambda value, most=most: value <= most,
                worst=max,
            )
    for variant in OVER_UNSTEERED:
        for small in SMALL_ROWS:
            yield _each(
                f"{variant}, {small} rows: us above unsteered, at most {ABOVE_UNSTEERED_US}",
                [row for row in rows if (row["variant"], row["rows"]) == (variant, small)],
                lambda row: [row["above_unsteered_us"]],
                lambda value: value <= ABOVE_UNSTEERED_US,
                worst=max,
            )
    yield _each(
        f"cuda_k1: x torch.compile of the reference, at most {OVER_COMPILED}",
        _against(rows, "compiled"),
        lambda row: _inverted(row["others_over_this"]["compiled"]),
        lambda value: value <= OVER_COMPILED,
        worst=max,
    )


def _hook_goals(rows: list[Row], how: str) -> Iterator[Goal]:
    yield _each(
        f"cuda_k1 {how}, up to {MOST_HOOK_ROWS} rows: x faster than hook, {FASTER_THAN_HOOK:g}",
        [row for row in _against(rows, "hook") if row["rows"] <= MOST_HOOK_ROWS],
        lambda row: row["others_over_this"]["hook"],
        lambda value: value >= FASTER_THAN_HOOK,
        worst=min,
    )


def _at(rows: list[Row], variant: str, shape: tuple[int, int]) -> list[Row]:
    return [row for row in rows if row["variant"] == variant and (row["rows"], row["d"]) == shape]


def _against(rows: list[Row], other: str) -> list[Row]:
    """The rows of cuda_k1 that can be held against ``other``, and those of it that were not run."""
    missing = [row for row in rows if row["variant"] == other and not _measured(row)]
    ours = [row for row in rows if row["variant"] == "cuda_k1"]
    return missing + [row for row in ours if other in row.get("others_over_this", {})]


def _inverted(ratio: Sequence[float]) -> list[float]:
    value, low, high = ratio
    return [1 / value, 1 / high, 1 / low]


def _host_goal(rows: list[Row]) -> Goal:
    return _each(
        f"{HOST_OP}: microseconds of the host, at most {HOST_US}",
        [row for row in rows if row["variant"] == HOST_OP],
        lambda row: [row["microseconds"]],
        lambda value: value <= HOST_US,
        worst=max,
    )


def _decode_goals(rows: list[Row]) -> Iterator[Goal]:
    for mode, most, words in (
        ("eager", EAGER_STEP, "below"),
        ("graph", GRAPH_STEP, "at most"),
    ):
        for model in dict.fromkeys(row["model"] for row in rows):
            yield _each(
                f"{model}, {mode} step with emokernel: x unpatched, {words} {most:g}",
                [
                    row
                    for row in rows
                    if (row["variant"], row["mode"], row["model"])
                    == ("emokernel_cuda", mode, model)
                ],
                lambda row: row["ratio"],
                lambda value, mode=mode, most=most: (
                    value < most if mode == "eager" else value <= most
                ),
                worst=max,
                place=lambda row: f"batch {row['batch']}",
            )


def _each(
    text: str,
    rows: Iterable[Row],
    value: Callable[[Row], Sequence[float]],
    meets: Callable[[float], bool],
    worst: Callable,
    place: Callable[[Row], str] = lambda row: _shape(row) if "d" in row else "",
) -> Goal:
    """The goal that every one of ``rows`` meets, with its worst value.

    ``value``: (value) or (value, low, high) of a row.
    """
    rows = list(rows)
    measured = [(figures, row) for row in rows if (figures := _value(value, row)) is not None]
    if not measured:
        reasons = [str(row.get("not_run") or row.get("error") or "") for row in rows]
        why = next(filter(None, reasons), "").partition("\n")[0][:50]
        return Goal(text, why, "not measured")
    (number, *interval), row = worst(measured, key=lambda pair: pair[0][0])
    shown = f"{number:.3f}"
    if interval:
        shown += f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    if len(rows) > 1:
        missed = sum(not meets(value[0]) for value, _ in measured)
        shown += f", worst of {len(measured)} ({missed} missed)"
    shown += f" at {place(row)}" if place(row) else ""
    if not meets(number):
        return Goal(text, shown, "MISSED")
    partly = len(measured) < len(rows)
    return Goal(text, shown, f"met where run ({len(measured)} of {len(rows)})" if partly else "met")


def _value(value: Callable[[Row], Sequence[float]], row: Row) -> Sequence[float] | None:
    """The value of a row, or None where it, or what it is compared to, was not measured."""
    try:
        return value(row) if _measured(row) else None
    except KeyError:
        return None
