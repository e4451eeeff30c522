"""The figures of whole models: see `figures.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from figure_results import NOT_YET, Results, Row, case_of, interval, machine, table, where, wrapped

MODELS = {"smollm2": "SmolLM2-135M", "random": "random, 1024 x 8", "embedded": "embedded, 192 x 6"}
KINDS = ("again", "hook", "emokernel")  # of variants, beside the unpatched one


def models(results: Results) -> str:
    """A forward of whole models for each machine: unpatched, again, hooked and patched."""
    blocks = []
    for path, rows in results.of("models"):
        lines = [
            [
                f"{MODELS[model]}, {dtype}",
                _forward(of["unpatched"]),
                f"{of['unpatched']['ms']:.2f} ms",
                *(interval(of.get(name, {}).get("ratio")) for name in KINDS),
            ]
            for (model, dtype, *_), of in _by_case(rows).items()
        ]
        head = ("model", "forward", "unpatched", "the same again", "plain hook", "emokernel")
        blocks.append(f"{where(path, rows)}\n\n{table(head, lines)}")
    return "\n\n".join(blocks) or NOT_YET.format("models.py")


def _forward(row: Row) -> str:
    """Such as "8 sequences, a token behind 64, eager"."""
    many = "" if row["batch"] == 1 else f"{row['batch']} sequences, "
    what = "a token behind" if row["what"] == "step" else "a prompt of"
    return f"{many}{what} {row['context']}, {row['mode']}"


def _by_case(rows: Sequence[Row]) -> dict[tuple, dict[str, Row]]:
    """The rows of each case by "unpatched" and `KINDS`."""
    groups: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        name = row["variant"].replace("_compiled", "")
        kind = "again" if name.endswith("_again") else "hook" if "hook" in name else name
        groups.setdefault(case_of("models", row), {})[kind] = row
    return groups


def in_short(results: Results) -> str:
    """A sentence of SmolLM2 on the machine that was measured last."""
    for _, rows in results.of("models"):
        told = [
            f"{interval(of['emokernel']['ratio'])} times in {dtype}"
            for (model, dtype, what, mode, batch, _), of in _by_case(rows).items()
            if (model, what, mode, batch) == ("smollm2", "step", "eager", 1)
        ]
        if told:
            return wrapped(
                f"On {machine(rows[-1])} a decoding step of SmolLM2 with every layer steered takes"
                f" {' and '.join(told)} as long as one of the unpatched model."
            )
    return NOT_YET.format("models.py")


def tokens(results: Results) -> str:
    """A token of one sequence, eager and compiled, from whole generations, for each machine."""
    blocks = []
    names = ("plain_hook", "emokernel"), ("compiled_hook", "emokernel_compiled")
    for path, rows in results.of("decode"):
        own = [row for row in rows if row["batch"] == 1 and "token_ms" in row]
        groups: dict[tuple, dict[str, Row]] = {}
        for row in own:
            groups.setdefault((row["model"], row["dtype"]), {})[row["variant"]] = row
        lines = [
            [f"{model} layers, {dtype}", *_both(of, names)] for (model, dtype), of in groups.items()
        ]
        if lines:
            head = (
                "model", "eager: unpatched", "again", "plain hook", "emokernel",
                "compiled: unpatched", "again", "compiled hook", "emokernel",
            )  # fmt: skip
            blocks.append(f"{where(path, own)}\n\n{table(head, lines)}")
    return "\n\n".join(blocks) or NOT_YET.format("decode.py")


def _both(of: dict[str, Row], names: Sequence[Sequence[str]]) -> Iterator[str]:
    for baseline, others in zip(("unpatched", "unpatched_compiled"), names, strict=True):
        yield f"{of[baseline]['token_ms']:.2f} ms" if baseline in of else ""
        for name in (f"{baseline}_again", *others):
            yield _seen(of[name]) if name in of else ""


def _seen(row: Row) -> str:
    """A ratio with its interval; a dash for one that cannot be told from the noise."""
    low, high = row["ratiointerval"] if "ratiointerval" in row else row["ratio"][1:]
    if row["ratio_told"].startswith("no difference"):
        return f"- ({low:.3f} to {high:.3f})"
    return interval(row["ratio"])
