"""Which slot each row of a padded batch has, by what its requests ask for.

A call holds ``batch`` sequences of ``tokens`` new tokens each; its rows are those tokens in order.
A *column* is a place in the (padded) sequence, counted from its start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emokernel.errors import SteeringError
from emokernel.state import UNTOUCHED, DeviceState, Kinds
from emokernel.state.rows import GENERATED, by_kind, slot_at


@dataclass(frozen=True)
class RecordedPrompts:
    """Prompts that end before column ``width``; ``mask`` ``[prompts, width]``, None: no padding."""

    width: int
    mask: Tensor | None


@dataclass(slots=True)
class PaddedBatch:
    """What one forward call of the decoder is given.

    ``past``: the columns before the new tokens, a 0-d tensor where only the device knows how many,
    None where nothing does.
    ``mask`` ``[batch, columns]``: what the call itself was given. ``prompts``: what `generate` was
    given, None in a plain call.
    """

    batch: int
    tokens: int
    past: int | Tensor | None
    mask: Tensor | None
    prompts: RecordedPrompts | None


class BatchPlan:
    """Which slot each sequence of a batch uses, and at which positions.

    One entry per sequence, or one for every n sequences in place (beams, return sequences).
    ``prompt_lengths`` ``[entries]`` and ``attention_mask`` ``[entries, width]`` serve loops other
    than `generate`, which knows them by itself.
    """

    def __init__(
        self,
        slots: Sequence[int],
        kinds: Sequence[Kinds],
        prompt_lengths: Sequence[int] | Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> None:
        self.entries = len(slots)
        # Nothing is steered, whatever the batch.
        self.asks_nothing = list(slots) == [UNTOUCHED]
        rows = [by_kind(*each) for each in zip(slots, kinds, strict=True)]
        # ``[entries, 3]``: the slot of prompt, last prompt and generated tokens.
        self.slots = torch.tensor(rows, dtype=torch.int32)
        # ``[entries, 1]``: tokens of each prompt, where they were given.
        self.lengths = None if prompt_lengths is None else self._checked_lengths(prompt_lengths)
        self.mask = self._checked_mask(attention_mask)
        # The one slot of every token that is not padding, if there is only one.
        uniform = self.entries == 1 and all(kinds[0]) and attention_mask is None
        self.slot_of_all = slots[0] if uniform else None
        self._kept: dict[tuple, Tensor] = {}

    def _checked_lengths(self, lengths: Sequence[int] | Tensor) -> Tensor:
        lengths = torch.as_tensor(lengths)
        if lengths.shape != (self.entries,):
            raise SteeringError(
                f"prompt_lengths needs {self.entries} numbers, one per entry, got"
                f" {list(lengths.shape)}"
            )
        return lengths[:, None]

    def _checked_mask(self, mask: Tensor | None) -> Tensor | None:
        if mask is not None and (mask.dim() != 2 or mask.shape[0] != self.entries):
            raise SteeringError(
                f"attention_mask needs the shape [{self.entries} entries, width], got"
                f" {list(mask.shape)}"
            )
        return mask

    def token_slot(self, call: PaddedBatch, state: DeviceState) -> Tensor:
        """The slot of each row of ``call``, int32, on the device of ``state``.

        Reads nothing back from the device; what is the same in every call is copied to it once.
        """
        repeats, rest = divmod(call.batch, self.entries)
        if rest or not repeats:
            raise SteeringError(
                f"{self.entries} requests do not fit a batch of {call.batch} sequences: give one"
                " per sequence (or one for each of the prompts that beams were made from)"
            )
        past = call.past
        if past is None:  # in a plain call; without these two it does not matter how many there are
            if self.lengths is not None or self.mask is not None:
                raise SteeringError(
                    "the model's cache does not count its tokens: pass an attention_mask of all"
                    " columns, those before the new tokens included"
                )
            past = 0
        ending = call.prompts if self.lengths is None else None
        if ending is not None and isinstance(past, int) and past >= ending.width:
            # A decoding step, or candidates to be verified.
            return self._table("generated", repeats * call.tokens, state)
        mask, beyond = self._mask_of(call, past, state.device)
        if mask is None and self.slot_of_all is not None:
            return state.constant_rows(call.batch * call.tokens, self.slot_of_all)
        return self._by_position(call, past, repeats, mask, beyond, state)

    def _table(self, name: str, repeats: int, state: DeviceState) -> Tensor:
        """A table of this plan, each entry repeated in place; copied once for each stream.

        Its memory is given back to the stream that has read it.
        """
        key = name, repeats, state.device, state.readers.current()
        if key not in self._kept:
            with torch.inference_mode(False):
                table = self.slots[:, GENERATED] if name == "generated" else getattr(self, name)
                self._kept[key] = table.repeat_interleave(repeats, dim=0).to(state.device)
        return self._kept[key]

    def _mask_of(
        self, call: PaddedBatch, past: int | Tensor, device: torch.device
    ) -> tuple[Tensor | None, bool]:
        """(Bool ``[batch, columns]``, which hold a token, None if all; whether those beyond do).

        Columns beyond a recorded mask hold what was generated since; a call's own mask has all.
        """
        mask, beyond = call.mask, False
        if call.prompts is not None and call.prompts.mask is not None:
            mask, beyond = call.prompts.mask, True
        elif mask is None:
            mask, beyond = self.mask, True
        if mask is None:
            return None, True
        if not (beyond or isinstance(past, Tensor)) and mask.shape[1] < past + call.tokens:
            raise SteeringError(
                f"attention_mask has {mask.shape[1]} columns, but with {past} tokens in the cache"
                f" and {call.tokens} new ones there are {past + call.tokens}: pass a mask of all of"
                " them"
            )
        mask = mask.to(device) != 0
        if mask.shape[0] != call.batch:
            repeats, rest = divmod(call.batch, mask.shape[0])
            if rest:
                raise SteeringError(
                    f"an attention_mask of {mask.shape[0]} sequences does not fit a batch of"
                    f" {call.batch}"
                )
            mask = mask.repeat_interleave(repeats, dim=0)
        return mask, beyond

    def _by_position(
        self,
        call: PaddedBatch,
        past: int | Tensor,
        repeats: int,
        mask: Tensor | None,
        beyond: bool,
        state: DeviceState,
    ) -> Tensor:
        """Slots ``[batch * tokens]`` from where each new token is and where its prompt ends."""
        columns = torch.arange(call.tokens, device=state.device) + past
        held = None if mask is None else held_at(mask, columns, beyond)
        if self.lengths is not None:
            place = columns + 1 if mask is None else tokens_up_to(mask, columns)
            last = self._table("lengths", repeats, state)
        else:
            place = columns
            last = self._last_columns(call, mask, held, columns)
        sequence = torch.arange(call.batch, device=state.device)[:, None]
        slots = slot_at(self._table("slots", repeats, state), sequence, place, last)
        if held is not None:
            slots = torch.where(held, slots, UNTOUCHED)
        return slots.to(torch.int32).reshape(-1)

    @staticmethod
    def _last_columns(
        call: PaddedBatch, mask: Tensor | None, held: Tensor | None, columns: Tensor
    ) -> Tensor:
        """The column of the last prompt token of each sequence ``[batch or 1, 1]``."""
        if call.prompts is None:
            # A plain call: everything that it was given is prompt.
            if held is None:
                return columns[-1:, None]
            return torch.where(held, columns, -1).amax(1, keepdim=True)
        width = call.prompts.width
        if mask is None or mask.shape[1] < width:
            return torch.full((1, 1), width - 1, device=columns.device)
        prompt = torch.arange(width, device=columns.device)
        return torch.where(mask[:, :width], prompt, -1).amax(1, keepdim=True)


def held_at(mask: Tensor, columns: Tensor, beyond: bool) -> Tensor:
    """``mask`` at ``columns``, ``beyond`` where it has no such column: ``[batch, tokens]``."""
    known = mask.index_select(1, columns.clamp(max=mask.shape[1] - 1))
    return torch.where(columns < mask.shape[1], known, beyond)


def tokens_up_to(mask: Tensor, columns: Tensor) -> Tensor:
    """How many tokens each sequence has up to ``columns``, all beyond counted."""
    width = mask.shape[1]
    counts = mask.long().cumsum(1).index_select(1, columns.clamp(max=width - 1))
    return counts + (columns - (width - 1)).clamp(min=0)
