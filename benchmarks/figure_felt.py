"""The figures of a move in mid-text: see `figures.py`."""

from __future__ import annotations

from figure_results import NOT_YET, Results, Row, machine, table, where, wrapped

WAYS = ("stays", "kept", "again", "from the start")
_HEAD = ("strength", "no move", "the next tokens alone", "read again", "so from its beginning")


def felt(results: Results) -> str:
    """What a judge reads behind a move, and what it costs to read again, on the last machine."""
    for path, rows in results.of("felt"):
        read = [row for row in rows if row["way"] in WAYS]
        cost = next(row for row in rows if row["way"] == "cost")
        strengths = sorted({row["strength"] for row in read})
        lines = [[f"{each:g}", *(_cell(read, each, way) for way in WAYS)] for each in strengths]
        asked = read[0]
        told = wrapped(
            f"{asked['questions']} questions, {asked['moves']} moves each to the opposite mood at"
            f" token {asked['moved_at']} of {asked['tokens']}; 95 % by bootstrap over questions."
            f" With two texts of {cost['tokens']} tokens a step took {cost['ms_step']:.0f} ms, one"
            f" that reads again {cost['ms_again']:.0f} ms, on {machine(cost)}."
        )
        return "\n\n".join([where(path, rows), table(_HEAD, lines), told])
    return NOT_YET.format("felt.py")


def _cell(rows: list[Row], strength: float, way: str) -> str:
    row = next(row for row in rows if (row["strength"], row["way"]) == (strength, way))
    low, high = row["projection_95"]
    return f"{row['projection']:.2f} ({low:.2f} to {high:.2f})"
