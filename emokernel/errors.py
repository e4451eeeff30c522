"""The errors of emokernel. Each message is one line that says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager


class EmokernelError(ValueError):
    """Base of all errors that emokernel raises on purpose."""


class UnknownEmotionError(EmokernelError):
    """An emotion that the vectors at hand do not have."""

    def __init__(self, name: object, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(str(name).lower(), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown emotion {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


class VectorsFileError(EmokernelError):
    """A file that is damaged or holds no emotion vectors."""


class ModelStructureError(EmokernelError):
    """A model that cannot be patched, or not by these vectors."""


class BackendError(EmokernelError, RuntimeError):
    """A backend that does not exist, or that was forced and cannot run."""


class SteeringError(EmokernelError):
    """A steering request that cannot be carried out as asked."""


class NoFreeSlotError(SteeringError):
    """More different mixes at a time than the model was patched for."""


class NoDoseError(SteeringError):
    """An emotion or state that no dose within the bounds of the calibration strengthens."""


class FetchError(EmokernelError):
    """Weights that pip does not give, or not those that were expected."""


class WrongWeightsError(FetchError):
    """Weights that are there, but are not those that were expected."""


@contextmanager
def telling(what: str, hint: str = "") -> Iterator[None]:
    """EmokernelError that names ``what`` cannot be done in place of what transformers raises."""
    try:
        yield
    except EmokernelError:
        raise
    except (OSError, ValueError, ImportError) as error:  # ImportError: a missing package
        first = str(error).strip().partition("\n")[0]
        raise EmokernelError(f"cannot {what}: {first}{hint}") from error


def ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers as a message names them: "0-3, 5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
