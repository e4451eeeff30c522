"""What the judge reads in texts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from emokernel.errors import EmokernelError
from emokernel.lab.judges import load_classifier
from emokernel.lab.measure.classifiers import TextClassifier, affect_of, names_in
from emokernel.serve.emotions.paths import without_paths
from emokernel.serve.emotions.schemas import Place, ReadAnswer, Reading
from emokernel.serve.emotions.told import coordinates_of
from emokernel.serve.front.errors import BusyError, UnavailableError

if TYPE_CHECKING:
    from emokernel.serve.service import Service

logger = logging.getLogger(__name__)

_WAITING = 64  # requests
_AGAIN_S, _LATER_S = 1, 60


class Reader:
    """The judge of a server, loaded when it is first asked; one thread loads it and reads.

    A tokenizer is not for several threads at a time.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
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
        judge, table = self._loaded(), coordinates_of(self._service.steering())
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
        return ReadAnswer(model=judge.name, coordinates=table.name, data=readings)

    def _loaded(self) -> TextClassifier:
        if self._judge is None:
            try:
                self._judge = load_classifier(self._service.judge)
            # Whatever a network, a package or a file that is not there raises.
            except Exception as error:
                logger.exception("the judge %s cannot be loaded", self._service.judge)
                why = str(error) if isinstance(error, EmokernelError) else type(error).__name__
                raise UnavailableError(
                    f"the judge {self._service.judge!r} cannot be had: {without_paths(why)}",
                    _LATER_S,
                ) from error
        return self._judge
