"""Writing the texts of an evaluation and reading them; each is kept as soon as it is read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from emokernel.errors import EmokernelError
from emokernel.lab.evaluate.consistency import Reader
from emokernel.lab.evaluate.plan import EMOTIONS, Cell, Plan
from emokernel.lab.evaluate.results import UNSTEERED
from emokernel.lab.evaluate.topic import HiddenStates, Topic
from emokernel.lab.measure.fluency import distinct_n, surprises
from emokernel.lab.measure.generation import Job, Written, write
from emokernel.lab.measure.journal import Journal
from emokernel.lab.measure.sentences import SentenceEncoder

# What is known of a text, as JSON.
Record = dict[str, Any]
# More empty answers of the unsteered model than this share, and there is nothing to evaluate.
_MOST_EMPTY = 0.5
_READ_AT_ONCE = 64
_TOPIC = "topic adherence"
_SENTENCES = "sentence similarity"


class Writer:
    """Writes the texts of cells and reads them, but those that the journal has already.

    Of every text the journal keeps what its cell says, query, seed, the opening and the answer that
    follows it, samples that were redrawn, nats and tokens of the answer behind the plain query
    under the unsteered model (if it reads them again), the top label by each judge and, of the
    emotions, the intended probability.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        plan: Plan,
        readers: Sequence[Reader],
        journal: Journal,
        *,
        accept: Callable[[str], bool],
        sentences: SentenceEncoder | None,
        progress: bool,
    ) -> None:
        """``sentences``: reads how much texts are about the same, besides the model itself."""
        self._model, self._tokenizer, self._steering = model, tokenizer, plan.steering
        self._readers, self._settings, self._journal = readers, plan.settings, journal
        self._special_tokens = plan.prompting.special_tokens
        self._accept, self._sentences, self._progress = accept, sentences, progress
        self._plain: Mapping[str, tuple[str, str]] = {}
        self._topics: dict[str, Topic] = {}
        self._digest = ""
        # Texts that an earlier run has written.
        self.known = 0

    def unsteered(self, cell: Cell, groups: Iterable[Collection[str]]) -> list[Record]:
        """The texts that all others are compared with.

        EmokernelError if among the texts of a group of queries most are empty or none has three
        words in a row.
        """
        self._plain = cell.prompts
        self.write([cell], "unsteered")
        records = self.records(cell)
        for queries in groups:
            _check([record["answer"] for record in records if record["query"] in queries])
        answers = {(record["query"], record["seed"]): record["answer"] for record in records}
        batch_size = min(_READ_AT_ONCE, self._settings.batch_size)
        if self._settings.reread:
            hidden_states = HiddenStates(self._model, self._tokenizer, batch_size=batch_size)
            self._topics[_TOPIC] = Topic(hidden_states, answers, centred=True)
        if self._sentences is not None:
            self._topics[_SENTENCES] = Topic(self._sentences, answers)
        self._digest = hashlib.sha256(repr(sorted(answers.items())).encode()).hexdigest()[:12]
        return records

    def adhering(self, cells: Sequence[Cell]) -> dict[Cell, list[Record]]:
        """The `records` of ``cells`` with their topic adherence.

        It depends on all unsteered texts, so the journal keeps it under their digest. `write` has
        found it for what it wrote; what an earlier run wrote may have grown.
        """
        open_cells = [cell for cell in cells if self._unread(cell)]
        shown = self._progress and bool(open_cells)
        for cell in tqdm(open_cells, desc=_TOPIC, unit=" cells", disable=not shown):
            self._adhere(cell)
        return {cell: self._with_topic(cell) for cell in cells}

    def _with_topic(self, cell: Cell) -> list[Record]:
        records = [dict(record) for record in self.records(cell)]
        for topic, prefix in ((_TOPIC, ""), (_SENTENCES, "sentences_")):
            if topic in self._topics:
                rows = self._journal.get(self._topic_key(topic, cell))
                for record, (unsteered, query) in zip(records, rows, strict=True):
                    record[f"{prefix}to_unsteered"] = unsteered
                    record[f"{prefix}to_query"] = query
        return records

    def _unread(self, cell: Cell) -> list[str]:
        return [
            topic
            for topic in self._topics
            if self._journal.get(self._topic_key(topic, cell)) is None
        ]

    def _adhere(self, cell: Cell) -> None:
        records = self.records(cell)
        answers = [record["answer"] for record in records]
        keys = [(record["query"], record["seed"]) for record in records]
        for topic in self._unread(cell):
            both = self._topics[topic].adherence(answers, keys)
            rows = [[round(s, 4) for s in pair] for pair in zip(*map(list, both), strict=True)]
            self._journal.put({self._topic_key(topic, cell): rows})

    def _topic_key(self, topic: str, cell: Cell) -> str:
        texts = self._settings.seeds * len(cell.prompts)
        return f"{topic} {self._digest} | {texts} | {cell.key}"

    def anchors(self) -> dict[str, dict[str, float]]:
        """Of unsteered answers to each other, what `Topic.anchors` says: "topic" if the model reads
        texts again, "sentences" if there is an encoder; both empty with a single seed.
        """
        names, several = {_TOPIC: "topic", _SENTENCES: "sentences"}, self._settings.seeds > 1
        return {
            names[topic]: each.anchors() if several else {} for topic, each in self._topics.items()
        }

    def write(self, cells: Sequence[Cell], title: str) -> None:
        """All texts of ``cells``, with progress in texts.

        What is read longest comes first, so that the time left is rather too long than too short;
        the seeds of a query side by side, since they read the same.
        """
        wanted = [
            (seed, cell, job)
            for cell in sorted(cells, key=_longest, reverse=True)
            for job in cell.jobs()
            for seed in range(self._settings.seeds)
        ]
        open_jobs = [each for each in wanted if self._journal.get(_key(*each)) is None]
        self.known += len(wanted) - len(open_jobs)
        missing = Counter(cell for _, cell, _ in open_jobs)
        batches = write(
            self._model, self._tokenizer, self._steering, [job for *_, job in open_jobs],
            [seed for seed, *_ in open_jobs], sampling=self._settings.sampling,
            special_tokens=self._special_tokens, accept=self._accept,
            batch_size=self._settings.batch_size,
        )  # fmt: skip
        with tqdm(
            total=len(wanted), initial=len(wanted) - len(open_jobs), desc=title, unit=" texts",
            disable=not self._progress,
        ) as bar:  # fmt: skip
            for written in batches:
                done, open_jobs = open_jobs[: len(written)], open_jobs[len(written) :]
                records = self._read([cell for _, cell, _ in done], written)
                keys = [_key(*each) for each in done]
                self._journal.put(dict(zip(keys, records, strict=True)))
                missing.subtract(cell for _, cell, _ in done)
                for cell in dict.fromkeys(cell for _, cell, _ in done):
                    if cell.experiment == EMOTIONS and not missing[cell]:
                        self._adhere(cell)
                bar.update(len(written))

    def records(self, cell: Cell) -> list[Record]:
        """What is known of the texts of a cell that has been written."""
        return [
            self._journal.get(_key(seed, cell, job))
            for seed in range(self._settings.seeds)
            for job in cell.jobs()
        ]

    def _read(self, cells: Sequence[Cell], written: Sequence[Written]) -> list[Record]:
        records = [
            {
                **cell.about(), "query": one.job.query, "seed": one.seed,
                "opening": one.job.opening, "answer": one.pair[1], "redrawn": one.redrawn,
                "top": {},
            }
            for cell, one in zip(cells, written, strict=True)
        ]  # fmt: skip
        if self._settings.reread:
            self._reread(records)
        for reader in self._readers:
            self._judge(reader, cells, records)
        return records

    def _reread(self, records: Sequence[Record]) -> None:
        nats, tokens = surprises(
            self._model, self._tokenizer, [self.pair(record) for record in records],
            special_tokens=self._special_tokens,
            batch_size=min(_READ_AT_ONCE, self._settings.batch_size),
        )  # fmt: skip
        for record, nat, count in zip(records, nats.tolist(), tokens.tolist(), strict=True):
            record["nats"], record["tokens"] = round(nat, 4), int(count)

    def _judge(self, reader: Reader, cells: Sequence[Cell], records: Sequence[Record]) -> None:
        judge = reader.judge
        probabilities = judge.probabilities([r["opening"] + r["answer"] for r in records])
        tops = reader.tops(probabilities, [record["answer"] for record in records])
        intended = reader.intended(probabilities)
        for cell, record, top, shown in zip(cells, records, tops, intended, strict=True):
            record["top"][judge.name] = top
            if cell.mode == UNSTEERED:
                record.setdefault("intended", {})[judge.name] = shown
            elif cell.experiment == EMOTIONS and cell.name in shown:
                record.setdefault("intended", {})[judge.name] = shown[cell.name]

    def pair(self, record: Record) -> tuple[str, str]:
        """(the query as it is asked when nothing else is, the answer)."""
        return "".join(self._plain[record["query"]]), record["answer"]


def _check(answers: Sequence[str]) -> None:
    empty = sum(not answer.strip() for answer in answers)
    if empty > _MOST_EMPTY * len(answers):
        raise EmokernelError(
            f"the unsteered model answers nothing in {empty} of {len(answers)} texts: let it write"
            " more (--max-new-tokens), or give other questions and queries"
        )
    if not distinct_n(answers):
        raise EmokernelError(
            f"the unsteered model writes next to nothing in {len(answers)} texts, not three words"
            " in a row: let it write more (--max-new-tokens, --openings, --seeds)"
        )


def _longest(cell: Cell) -> int:
    return max(len(prefix + opening) for prefix, opening in cell.prompts.values())


def _key(seed: int, cell: Cell, job: Job) -> str:
    return f"{cell.key} | {seed} | {job.query}"
