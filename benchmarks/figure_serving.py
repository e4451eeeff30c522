"""The figures of the server: see `figures.py`."""

from __future__ import annotations

from collections.abc import Sequence

from figure_results import NOT_YET, Results, Row, interval, machine, table, where, wrapped

_LOAD, _COST = "serving/load.py", "serving/cost.py"
VARIANTS = {
    "unsteered again": "unsteered again", "one": "one emotion", "many": "an emotion each",
}  # fmt: skip


def start(results: Results) -> str:
    """How long the server of the chat model takes until it is ready, on the last machine."""
    for _, rows in results.of("serving-load"):
        ready = [row["ready_after_s"] for row in rows if row["model"] == "smollm2"]
        if ready:
            return wrapped(
                f"On {machine(rows[-1])}, with the weights fetched, it was ready after"
                f" {ready[-1]:.0f} s."
            )
    return NOT_YET.format(_LOAD)


def load(results: Results) -> str:
    """What crowds and short requests met, for each machine."""
    blocks = []
    for path, rows in results.of("serving-load"):
        crowds = [row for row in rows if row["phase"] == "crowd"]
        shorts = [row for row in rows if row["phase"] == "short"]
        parts = [where(path, rows)]
        if crowds:
            parts.append(table(_CROWD, map(_crowd, crowds)))
        if shorts:
            parts.append(table(_SHORT, map(_short, shorts)))
        blocks.append("\n\n".join(parts))
    return "\n\n".join(blocks) or NOT_YET.format(_LOAD)


_CROWD = (
    "a crowd", "requests", "hung up", "malformed", "5xx", "texts that differ from a lone one",
    "requests a second", "tokens a second", "first token, p50 and p99, steered", "unsteered",
    "a token, p50 and p99, steered", "unsteered",
)  # fmt: skip
_SHORT = ("short requests", "other than 200", "a second", "memory that one leaves behind")


def _crowd(row: Row) -> list[str]:
    served = sum(count for status, count in row["statuses"].items() if status.startswith("5"))
    return [
        f"{row['model']}: {row['clients']} clients for {row['seconds']} s",
        f"{row['requests']}", f"{row['hang_ups']}", f"{row['malformed']}", f"{served}",
        f"{row['wrong_count']} of {row['compared']}",
        f"{row['requests_per_second']:.1f}", f"{row['tokens_per_second']:.0f}",
        *(
            "{p50:.0f} and {p99:.0f} ms".format(**row[f"{what}_{steered}_ms"])
            for what in ("first", "next")
            for steered in ("steered", "unsteered")
        ),
    ]  # fmt: skip


def _short(row: Row) -> list[str]:
    other = sum(count for status, count in row["statuses"].items() if status != "200")
    return [
        f"{row['model']}: {row['requests']}", f"{other}", f"{row['requests_per_second']:.0f}",
        f"{row['memory_bytes_per_request']:.0f} bytes",
    ]  # fmt: skip


def cost(results: Results) -> str:
    """A steered request beside an unsteered one, for each machine."""
    blocks = []
    for path, rows in results.of("serving-cost"):
        lines = []
        for (model, clients), of in _by_case(rows).items():
            usual = of["unsteered"]
            for what, name in (("first", "first token"), ("token", "each further token")):
                lines.append([
                    f"{model}, {clients} at once, {name}", f"{usual[f'{what}_ms']:.1f} ms",
                    *(_ratio(of.get(variant), what) for variant in VARIANTS),
                ])  # fmt: skip
        head = ("clients", "unsteered", *VARIANTS.values())
        blocks.append(f"{where(path, rows)}\n\n{table(head, lines)}")
    return "\n\n".join(blocks) or NOT_YET.format(_COST)


def _by_case(rows: Sequence[Row]) -> dict[tuple, dict[str, Row]]:
    groups: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["clients"]), {})[row["variant"]] = row
    return groups


def _ratio(row: Row | None, what: str) -> str:
    if row is None:
        return ""
    return interval([row[f"{what}_ratio"], *row[f"{what}_ratio_95"]])
