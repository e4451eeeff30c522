"""What the judge reads in texts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from emokernel.affect import Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.judges import load_classifier
from emokernel.lab.measure.classifiers import TextClassifier, affect_of, names_in
from emokernel.serve.front.errors import BusyError, UnavailableError
from emokernel.serve.known.paths import without_paths
from emokernel.serve.known.schemas import Place, ReadAnswer, Reading

logger = logging.getLogger(__name__)

_WAITING = 64  # requests
_AGAIN_S, _LATER_S = 1, 60


class Reader:
    """The judge of a server, loaded when it is first asked; one thread loads it and reads.

    A tokenizer is not for several threads at a time.
    """

    def __init__(self, judge: str, coordinates: Coordinates, device: str | None = None) -> None:
        """``judge``, ``device``: those of `load_classifier`; ``coordinates``: where labels are."""
        self._name, self._table, self._device = judge, coordinates, device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._judge: TextClassifier | None = None
        self._waiting = 0

    async def read(self, texts: Sequence[str]) -> ReadAnswer:
        """The reading of each text.

        BusyError if too many wait for one, UnavailableError if there is no judge.
        """
        if self._waiting >= _WAITING:
            raise BusyError(
                f"{_WAITING} requests wait for a reading already: ask again in {_AGAIN_S} s",
                _AGAIN_S,
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._read, texts)
        finally:
            self._waiting -= 1

    def _read(self, texts: Sequence[str]) -> ReadAnswer:
        judge, table = self._loaded(), self._table
        probabilities = judge.probabilities(texts)
        names = names_in(table, judge.labels)
        points = affect_of(probabilities, names, table).tolist()
        placed = any(name in table for name in names)
        readings = [
            Reading(
                index=index,
                label=judge.labels[max(range(len(scores)), key=scores.__getitem__)],
                scores={n: round(s, 6) for n, s in zip(judge.labels, scores, strict=True)},
                place=Place.at(*point) if placed else None,
            )
            for index, (scores, point) in enumerate(
                zip(probabilities.tolist(), points, strict=True)
            )
        ]
        return ReadAnswer(
            model=without_paths(judge.name), coordinates=without_paths(table.name), data=readings
        )

    def _loaded(self) -> TextClassifier:
        if self._judge is None:
            try:
                self._judge = load_classifier(self._name, device=self._device)
            # Whatever a network, a package or a file that is not there raises.
            except Exception as error:
                logger.exception("the judge %s cannot be loaded", self._name)
                why = str(error) if isinstance(error, EmokernelError) else type(error).__name__
                raise UnavailableError(
                    f"the judge {without_paths(self._name)!r} cannot be had: {without_paths(why)}",
                    _LATER_S,
                ) from error
        return self._judge
