"""What several texts of an evaluation show together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from emokernel.lab.evaluate.prompting import is_refusal
from emokernel.lab.evaluate.results import Interval, Sentences
from emokernel.lab.evaluate.writing import Record
from emokernel.lab.measure.fluency import distinct_n, exponential
from emokernel.lab.measure.intervals import mean_interval, ratio_interval


class Plain:
    """Unsteered texts, what others are compared with."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.perplexity = perplexity(records)
        self.distinct_3 = distinct(records, 3)

    def sentences(self, records: Sequence[Record]) -> Sentences | None:
        """What an encoder says of the topic of ``records``, beside the unsteered answers to the
        same queries under the same seeds; None without an encoder or texts.
        """
        if not records or "sentences_to_query" not in records[0]:
            return None
        own = {(r["query"], r["seed"]): r["sentences_to_query"] for r in self.records}
        queries = [record["query"] for record in records]
        to_query = [record["sentences_to_query"] for record in records]
        to_unsteered = [record["sentences_to_unsteered"] for record in records]
        plain = [own[record["query"], record["seed"]] for record in records]
        return Sentences(
            to_unsteered=Interval(*mean_interval(to_unsteered, queries)),
            to_query=Interval(*mean_interval(to_query, queries)),
            kept=Interval(*ratio_interval(to_query, plain, queries)),
        )


def paired(one: Sequence[float], other: Sequence[float], queries: Sequence[str]) -> Interval:
    """The mean difference of observations side by side, by bootstrap over their queries."""
    return Interval(*mean_interval((np.array(one) - np.array(other)).tolist(), queries))


def perplexity(records: Sequence[Record]) -> float:
    """Of all answers together; infinite where nothing was written, NaN where it was not read."""
    if not all("tokens" in record for record in records):
        return math.nan
    tokens = sum(record["tokens"] for record in records)
    return exponential(sum(r["nats"] for r in records) / tokens) if tokens else math.inf


def surprise_difference(one: Sequence[Record], other: Sequence[Record]) -> Interval:
    """Nats per token, mean over the pairs of answers of which neither is empty; NaN without any."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a["tokens"] and b["tokens"]]
    if not pairs:
        return Interval(math.nan, math.nan, math.nan)
    nats = ([each[side]["nats"] / each[side]["tokens"] for each in pairs] for side in (0, 1))
    return paired(*nats, [a["query"] for a, _ in pairs])


def distinct(records: Sequence[Record], n: int) -> float:
    """The share of distinct ``n``-grams; 0 for answers that are all too short."""
    return distinct_n([record["answer"] for record in records], n)


def refusals(records: Sequence[Record]) -> float:
    """Their share."""
    return sum(is_refusal(record["answer"]) for record in records) / len(records)
