"""What forwards read that run without Python: compiled ones, and those replayed as a CUDA graph.

A `BatchPlan` decides once per call, in Python, which slot each row has. What torch.compile has
traced or a graph has captured asks nobody, and is made once: it computes the slots by tensor
operations from the inputs of the call and from a buffer whose tensors keep their address, and into
which is written what `set`, `requests` and `generate` ask for. Whatever that is, nothing is
compiled or captured again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emokernel.engines.plan import BatchPlan, PaddedBatch, RecordedPrompts, held_at, tokens_up_to
from emokernel.errors import SteeringError
from emokernel.state import UNTOUCHED
from emokernel.state.rows import slot_at

_HEAD = ("entries", "prompts", "beyond", "masked", "generating", "counted")
_ENTRY, _SPAN = 4, 3  # words of an entry (a slot per kind, prompt length) and of a prompt's span
_ENDLESS = torch.iinfo(torch.int32).max
_BY_REQUESTS, _BY_GENERATE = 1, 2  # who gave the mask: a call's own goes between the two


class PlanBuffer:
    """The plan and the prompts of the running call, for up to ``sequences`` of them.

    ``words`` is one int32 tensor, so that one copy updates all; ``misfit`` says whether a call had
    a batch since `take_misfit` that the entries do not fit. ``used``: whether anything reads it.
    """

    def __init__(self, sequences: int, device: torch.device) -> None:
        self.sequences = sequences
        self.used = False
        self._problem: SteeringError | None = None
        with torch.inference_mode(False):
            size = len(_HEAD) + sequences * (_ENTRY + _SPAN)
            self.words = torch.zeros(size, dtype=torch.int32, device=device)
            self.misfit = torch.zeros((), dtype=torch.bool, device=device)
        self._write(None, None)

    def on(self, device: torch.device) -> PlanBuffer:
        """The same buffer on ``device``: itself, if it is there."""
        if self.words.device == device:
            return self
        moved = PlanBuffer(self.sequences, device)
        moved.words.copy_(self.words)
        moved.used, moved._problem = self.used, self._problem
        return moved

    @property
    def fixed(self) -> tuple[Tensor, ...]:
        """The tensors whose addresses stay."""
        return self.words, self.misfit

    def use(self) -> None:
        """From now on something reads it; SteeringError if it cannot hold what is asked for now."""
        if self._problem is not None:
            raise self._problem
        self.used = True

    def show(
        self,
        plan: BatchPlan | None,
        prompts: RecordedPrompts | None,
        problem: SteeringError | None = None,
    ) -> None:
        """From now on, steer by ``plan``; ``prompts`` are those of the running `generate`, if any.

        ``problem``: why that cannot be. SteeringError for it, or if the buffer cannot hold them,
        where something reads it; it stays as it was then. Otherwise `use` raises it.
        """
        self._problem, before = problem, self._problem
        try:
            if problem is not None:
                raise problem
            self._write(plan, prompts)
        except SteeringError as found:
            if self.used:
                self._problem = before
                raise
            self._problem = found
            self._write(None, None)

    def _write(self, plan: BatchPlan | None, prompts: RecordedPrompts | None) -> None:
        words = torch.zeros(self.words.shape, dtype=torch.int32)
        entries, spans = _parts(words, self.sequences)
        slots = torch.full((1, 3), UNTOUCHED) if plan is None else plan.slots
        recorded = None if plan is None else plan.mask
        masked = 0 if recorded is None else _BY_REQUESTS
        if prompts is not None and prompts.mask is not None:
            recorded, masked = prompts.mask, _BY_GENERATE
        found, beyond = _spans(recorded, prompts)
        lengths = None if plan is None else plan.lengths
        for count, what in ((len(slots), "requests"), (len(found), "prompts")):
            if count > self.sequences:
                raise SteeringError(
                    f"a compiled or captured model holds up to {self.sequences} sequences, but"
                    f" there are {count} {what}: patch with a larger slots="
                )
        entries[: len(slots), :3] = slots
        if lengths is not None:
            entries[: len(slots), 3:] = lengths
        spans[: len(found)] = found
        head = {
            "entries": len(slots), "prompts": len(found), "beyond": beyond,
            "masked": masked, "generating": prompts is not None, "counted": lengths is not None,
        }  # fmt: skip
        words[: len(_HEAD)] = torch.tensor([head[name] for name in _HEAD], dtype=torch.int32)
        self.words.copy_(words)

    def take_misfit(self) -> bool:
        """Whether a call did not fit since this was last asked; waits for the device."""
        misfit = bool(self.misfit)
        if misfit:
            self.misfit.zero_()
        return misfit


def token_slot(buffer: PlanBuffer, call: PaddedBatch) -> Tensor:
    """The slot of each row of ``call``, int32; tensor operations only.

    A batch that is no multiple of the entries is left untouched; `PlanBuffer.take_misfit` tells.
    """
    assert call.past is not None  # `read_traced_call` counts the columns, or refuses the call
    places = buffer.sequences, call.batch, call.tokens
    return _slots(buffer.words, buffer.misfit, *places, call.past, call.mask)


def _slots(
    words: Tensor,
    misfit: Tensor,
    sequences: int,
    batch: int,
    tokens: int,
    past: int | Tensor,
    mask: Tensor | None,
) -> Tensor:
    words = words.long()
    entries, prompts, beyond, masked, generating, counted = words[: len(_HEAD)].unbind()
    by_entry, by_prompt = _parts(words, sequences)
    row = torch.arange(batch, device=words.device)
    entry = (row * entries // batch)[:, None]
    first, last, end = by_prompt.index_select(0, row * prompts // batch).split(1, 1)
    columns = torch.arange(tokens, device=words.device) + past
    within = torch.minimum(columns, last)
    held = (columns >= first) & (columns <= last) | (columns >= beyond)
    count = within - first + 1 + (columns - beyond + 1).clamp(min=0)  # of what is held
    if mask is not None:
        mask, recorded = mask != 0, masked == _BY_GENERATE
        held = torch.where(recorded, held, held_at(mask, columns, beyond=False))
        count = torch.where(recorded, count, tokens_up_to(mask, columns))
    given = torch.where(held, columns, -1).amax(1, keepdim=True)  # in a plain call, all prompt
    place = torch.where(counted != 0, count, columns)
    last_place = torch.where(generating != 0, end, given)
    last_place = torch.where(counted != 0, by_entry[entry, 3], last_place)
    slots = torch.where(held, slot_at(by_entry, entry, place, last_place), UNTOUCHED)
    fits = (batch % entries == 0) & (batch % prompts == 0)
    misfit.logical_or_(~fits)
    return torch.where(fits, slots, UNTOUCHED).to(torch.int32).reshape(-1)


def _parts(words: Tensor, sequences: int) -> tuple[Tensor, Tensor]:
    """(Entries ``[sequences, 4]``, spans ``[sequences, 3]``): views of words."""
    start, middle = len(_HEAD), len(_HEAD) + sequences * _ENTRY
    return words[start:middle].view(-1, _ENTRY), words[middle:].view(-1, _SPAN)


def _spans(mask: Tensor | None, prompts: RecordedPrompts | None) -> tuple[Tensor, int]:
    """(Which columns of each prompt hold tokens ``[prompts, 3]``; the one from which all do).

    They hold some from the first to the second; the third is the column of the last prompt token.
    SteeringError for a mask with holes.
    """
    width = _ENDLESS if prompts is None else prompts.width
    if mask is None:
        return torch.tensor([[0, width - 1, width - 1]]), width
    mask = mask.detach().to("cpu") != 0
    first, last = mask.long().argmax(1), _last(mask)
    if (mask.sum(1) != last - first + 1).any():
        raise SteeringError(
            "an attention_mask with holes cannot be steered in a compiled or captured model: pad on"
            " one side, or run the model as it is"
        )
    columns = mask.shape[1]
    end = _last(mask[:, :width]) if columns >= width else torch.full_like(last, width - 1)
    return torch.stack([first, last, end], 1), columns


def _last(mask: Tensor) -> Tensor:
    """The last column of each row of a bool mask that is set; -1 if none is."""
    return torch.where(mask, torch.arange(mask.shape[1]), -1).amax(1)


def compile_whole() -> None:
    """Tell torch.compile not to look into `token_slot`: each call would check what that reads."""
    torch.compiler.allow_in_graph(_slots)
