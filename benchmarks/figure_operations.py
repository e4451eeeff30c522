"""The figures of the row operations: see `figures.py`."""

from __future__ import annotations

from collections.abc import Sequence

from figure_results import DTYPES, NOT_YET, Results, Row, machine, picture, table, where, wrapped

FORMS = {
    "add_steer_rms_norm_out": "with RMSNorm",
    "prompt": "the same, one slot for all rows",
    "add_steer_layer_norm_out": "with LayerNorm",
    "steer_rms_norm_": "in place, behind an engine's norm",
    "add_steer": "without a norm (against torch.add)",
}


def _percent(ratio: Sequence[float]) -> str:
    return f"{100 * ratio[0]:.0f} %"


def _span(numbers: Sequence[float]) -> str:
    """Such as "104 to 111"; one number where both are alike."""
    low, high = (f"{end(numbers):.0f}" for end in (min, max))
    return low if low == high else f"{low} to {high}"


def _throughput(rows: Sequence[Row]) -> dict[tuple, dict[str, Row]]:
    """By (dtype, rows, d, ISA), the rows of its variants; those of torch are in each."""
    groups: dict[tuple, dict[str, Row]] = {}
    own = [row for row in rows if row["benchmark"] == "throughput"]
    for row in own:
        if row["variant"] == "k1":
            alike = [other for other in own if _size(other) == _size(row)]
            groups[(*_size(row), row.get("isa"))] = {
                other["variant"]: other
                for other in alike
                if other.get("isa") in (None, row.get("isa"))
            }
    return dict(sorted(groups.items(), key=lambda each: (DTYPES.index(each[0][0]), each[0][1:3])))


def _size(row: Row) -> tuple[str, int, int]:
    return row["dtype"], row["rows"], row["d"]


def operation(results: Results) -> str:
    """A table of one operation for each machine, and what a call takes."""
    blocks: list[str] = []
    for path, rows in results.of("ops"):
        lines = []
        for (dtype, count, d, isa), of in _throughput(rows).items():
            against = of["k1"]["others_over_this"]
            lines.append([
                f"{count} x {d}, {dtype}" + (f", {isa}" if isa else ""),
                f"{1e3 * of['k1']['seconds']:.2f} ms",
                _percent(against["copy"]),
                _percent(of["k8"]["others_over_this"]["copy"]),
                f"{1 / against['none'][0]:.2f}x",
                f"{against['eager'][0]:.1f}x slower",
                f"{against['compiled'][0]:.1f}x slower",
            ])  # fmt: skip
        head = (
            "rows, dtype", "time", "bandwidth of a copy", "mix of 8",
            "over the same call unsteered", "eager torch", "torch.compile",
        )  # fmt: skip
        drawn = picture(path, "Bandwidth and time of the fused operation")
        blocks += [where(path, rows), table(head, lines), _calls(rows), drawn]
    return "\n\n".join(filter(None, blocks)) or NOT_YET.format("ops.py")


def _calls(rows: Sequence[Row]) -> str:
    found: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        if row["benchmark"] == "latency":
            found.setdefault((row["dtype"], row.get("isa")), {})[row["variant"]] = row
    told = (
        f"{of['call']['microseconds']:.1f} us in {' by '.join(filter(None, key))} (the kernel"
        f" {of['kernel']['microseconds']:.1f})"
        for key, of in found.items()
    )
    return wrapped(f"One call at 1 x 1024 takes {', '.join(told)}.")


def in_short(results: Results) -> str:
    """A sentence of one operation on the machine that was measured last."""
    for _, rows in results.of("ops"):
        groups = {key: of for key, of in _throughput(rows).items() if key[1:3] == (2048, 4096)}
        best = {key[0]: of for key, of in groups.items()}  # the last ISA of each dtype
        copies = [100 * of["k1"]["others_over_this"]["copy"][0] for of in best.values()]
        faster = " and ".join(
            f"{best[dtype]['k1']['others_over_this']['compiled'][0]:.1f} times in {dtype}"
            for dtype in ("fp32", "bf16") if dtype in best
        )  # fmt: skip
        return wrapped(
            f"On {machine(rows[-1])} the fused operation, residual add, steering and RMSNorm of"
            f" 2048 rows of 4096, runs at {_span(copies)} % of the bandwidth of a copy, and is"
            f" faster than what torch.compile makes, {faster}."
        )
    return NOT_YET.format("ops.py")


_SHAPES = ((64, 576), (512, 1000), (2048, 576), (512, 4096), (2048, 4096), (8192, 4096))


def shapes(results: Results) -> str:
    """Shares of a copy by shape, dtype and ISA, and by form, for each machine."""
    blocks: list[str] = []
    for path, rows in results.of("shapes"):
        wide = {_shape(row): row for row in rows if row["plan"] == "wide"}
        kinds = sorted({(row["dtype"], row["isa"]) for row in wide.values()}, key=_kind)
        lines = [
            [f"{dtype}, {isa}", *(_cell(wide.get((*size, dtype, isa))) for size in _SHAPES)]
            for dtype, isa in kinds
        ]
        head = ("", *(f"{count} x {d}" for count, d in _SHAPES))
        drawn = picture(path, "Share of a copy by width, rows, dtype and instruction set")
        blocks += [where(path, rows), table(head, lines), _forms(rows), _threads(rows), drawn]
    return "\n\n".join(filter(None, blocks)) or NOT_YET.format("ops_shapes.py")


def _shape(row: Row) -> tuple:
    return row["rows"], row["d"], row["dtype"], row["isa"]


def _kind(kind: tuple[str, str]) -> tuple:
    return DTYPES.index(kind[0]), kind[1]


def _cell(row: Row | None) -> str:
    """Shares of a copy with mixes of 1 and 8, and of 1 over unsteered."""
    if row is None:
        return ""
    shares = " / ".join(f"{100 * row['of_copy'][mix][0]:.0f}" for mix in ("k1", "k8"))
    over = row.get("over_unsteered")
    return f"{shares} %" + (f", {over['k1'][0]:.2f}x" if over else "")


def _forms(rows: Sequence[Row]) -> str:
    """Every form at one shape, by ISA and dtype."""
    own = [row for row in rows if (row["rows"], row["d"]) == (2048, 4096)]
    own = [row for row in own if row["plan"] in ("wide", "forms", "prompt")]
    if not any(row["plan"] == "forms" for row in own):
        return ""
    found = {
        ("prompt" if row["one_slot"] else row["form"], row["dtype"], row["isa"]): row for row in own
    }
    kinds = sorted({key[1:] for key in found}, key=_kind)
    head = ("2048 x 4096", *(f"{dtype}, {isa}" for dtype, isa in kinds))
    return table(
        head, ([text, *(_cell(found.get((form, *kind))) for kind in kinds)]
               for form, text in FORMS.items())
    )  # fmt: skip


def _threads(rows: Sequence[Row]) -> str:
    """The time of two threads over that of one, by elements of a call."""
    own = [row for row in rows if row["plan"] == "threads" and "over_one_thread" in row]
    if not own:
        return ""
    found = {(row["form"], row["dtype"], row["rows"] * row["d"]): row for row in own}
    sizes = sorted({size for *_, size in found})
    lines = [
        [f"{FORMS[form]}, {dtype}", *(_over(found.get((form, dtype, size))) for size in sizes)]
        for form, dtype in dict.fromkeys(key[:2] for key in found)
    ]
    return table(("two threads over one, by elements", *map(str, sizes)), lines)


def _over(row: Row | None) -> str:
    return f"{row['over_one_thread']['k1'][0]:.2f}" if row else ""
