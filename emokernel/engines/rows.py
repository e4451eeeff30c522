"""From requests to rows: the ``token_slot`` of one forward call.

A call holds ``batch`` sequences of ``tokens`` new tokens each; its rows are those tokens in order.
A *column* is a place in the (padded) sequence, counted from its start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emokernel.errors import SteeringError
from emokernel.state import UNTOUCHED, DeviceState

# Which kinds of token each choice of positions steers: prompt, last prompt token, generated.
POSITIONS = {
    "all": (True, True, True),
    "prompt": (True, True, False),
    "generated": (False, False, True),
    "last": (False, True, True),
}
_PROMPT, _LAST, _GENERATED = range(3)


def check_positions(positions: str) -> str:
    """``positions`` itself, or SteeringError if there is no such choice."""
    if positions not in POSITIONS:
        raise SteeringError(
            f"unknown positions {positions!r}: choose one of {', '.join(POSITIONS)}"
        )
    return positions


@dataclass(frozen=True)
class Generation:
    """What `generate` was given: the width of its prompts and their mask ``[batch, width]``."""

    width: int
    mask: Tensor | None


@dataclass(frozen=True)
class Call:
    """One forward call of the decoder."""

    batch: int
    tokens: int
    past: int
    mask: Tensor | None
    generation: Generation | None


class Plan:
    """Which slot each sequence of a batch uses, and at which positions.

    One entry per sequence, or one for every n sequences in place (beams, return sequences).
    ``prompt_lengths`` ``[entries]`` and ``attention_mask`` ``[entries, width]`` serve loops other
    than `generate`, which knows them by itself.
    """

    def __init__(
        self,
        slots: Sequence[int],
        positions: Sequence[str],
        prompt_lengths: Sequence[int] | Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> None:
        self.entries = len(slots)
        self._slots = torch.tensor(slots, dtype=torch.int32)
        self._allowed = torch.tensor([POSITIONS[name] for name in positions])
        self._prompt_lengths = self._lengths(prompt_lengths)
        self.mask = self._checked_mask(attention_mask)
        # The one slot of every token that is not padding, if there is only one.
        uniform = self.entries == 1 and positions[0] == "all" and attention_mask is None
        self.slot_of_all = slots[0] if uniform else None
        self._decode_rows: dict[tuple[int, torch.device], Tensor] = {}

    def _lengths(self, lengths: Sequence[int] | Tensor | None) -> Tensor | None:
        if lengths is None:
            return None
        lengths = torch.as_tensor(lengths)
        if lengths.shape != (self.entries,):
            raise SteeringError(
                f"prompt_lengths needs {self.entries} numbers, one per entry, got"
                f" {list(lengths.shape)}"
            )
        return lengths

    def _checked_mask(self, mask: Tensor | None) -> Tensor | None:
        if mask is not None and (mask.dim() != 2 or mask.shape[0] != self.entries):
            raise SteeringError(
                f"attention_mask needs the shape [{self.entries} entries, width], got"
                f" {list(mask.shape)}"
            )
        return mask

    def token_slot(self, call: Call, state: DeviceState) -> Tensor:
        """The slot of each row of ``call``, int32, on the device of ``state``."""
        repeats, rest = divmod(call.batch, self.entries)
        if rest or not repeats:
            raise SteeringError(
                f"{self.entries} requests do not fit a batch of {call.batch} sequences: give one"
                " per sequence (or one for each of the prompts that beams were made from)"
            )
        generation = call.generation
        if generation is not None and call.tokens == 1 and call.past >= generation.width:
            return self._decoding(call.batch, state.device)
        mask = self._columns_mask(call, state.device)
        if mask is None and self.slot_of_all is not None:
            return state.constant_rows(call.batch * call.tokens, self.slot_of_all)
        return self._by_position(call, repeats, mask, state.device)

    def _decoding(self, batch: int, device: torch.device) -> Tensor:
        """Rows of a step in which every sequence has one generated token; made once."""
        key = batch, device
        if key not in self._decode_rows:
            with torch.inference_mode(False):
                slots = torch.where(self._allowed[:, _GENERATED], self._slots, UNTOUCHED)
                self._decode_rows[key] = slots.repeat_interleave(batch // self.entries).to(device)
        return self._decode_rows[key]

    def _columns_mask(self, call: Call, device: torch.device) -> Tensor | None:
        """Bool ``[batch, past + tokens]``: which columns hold a token, None if all do."""
        width = call.past + call.tokens
        mask = call.mask
        if mask is None or mask.dim() != 2 or mask.shape[1] < width:
            mask = call.generation.mask if call.generation is not None else self.mask
            if mask is None:
                return None
            # Columns after the prompt hold generated tokens.
            mask = torch.nn.functional.pad(mask, (0, max(0, width - mask.shape[1])), value=1)
        mask = mask[:, :width].to(device) != 0
        if mask.shape[0] != call.batch:
            mask = mask.repeat_interleave(call.batch // mask.shape[0], dim=0)
        return mask

    def _by_position(
        self, call: Call, repeats: int, mask: Tensor | None, device: torch.device
    ) -> Tensor:
        width = call.past + call.tokens
        if mask is None:
            mask = torch.ones(call.batch, width, dtype=torch.bool, device=device)
        new = slice(call.past, width)
        if call.generation is not None:
            place, last = torch.arange(width, device=device).expand_as(mask), call.generation.width
            last = torch.full((call.batch, 1), last - 1, device=device)
        elif self._prompt_lengths is not None:
            place = mask.long().cumsum(-1)
            last = self._prompt_lengths.to(device).repeat_interleave(repeats)[:, None]
        else:
            place = mask.long().cumsum(-1)
            last = place[:, -1:]
        place = place[:, new]
        kind = torch.where(place > last, _GENERATED, torch.where(place == last, _LAST, _PROMPT))
        allowed = self._allowed.to(device).repeat_interleave(repeats, dim=0).gather(1, kind)
        slots = self._slots.to(device).repeat_interleave(repeats)[:, None]
        return torch.where(mask[:, new] & allowed, slots, UNTOUCHED).to(torch.int32).reshape(-1)
