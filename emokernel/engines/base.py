"""What an engine of a patched decoder has to answer.

An *engine* is whoever runs forwards. Its one job is to say, for one forward, which slot each row
has, and so which request it belongs to. The decoder asks a list of engines in order; the first that
claims the call answers. Engines read `Requested`; they know nothing of emotions or of who patched
the model. An engine that writes the slots of its rows before the forward needs none of this, only
`emokernel.state`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from torch import Tensor, nn

from emokernel.errors import SteeringError
from emokernel.replaced import ReplacedMethod
from emokernel.state import DeviceState


@dataclass(slots=True)
class ForwardCall:
    """One forward of the decoder of a patched model.

    ``named``: its arguments by name. ``traced``: torch.compile traces it or a CUDA graph captures
    it, so that what it computes stands for all calls to come.
    """

    named: Mapping[str, Any]
    traced: bool = False

    @property
    def tokens(self) -> Tensor:
        """Ids ``[batch, tokens]`` or embeddings ``[batch, tokens, d]``."""
        ids = self.named.get("input_ids")
        return self.named["inputs_embeds"] if ids is None else ids

    @property
    def cache(self) -> Any:
        """What the call goes on from, by the name that the model has for it."""
        for name in ("past_key_values", "cache_params", "state"):
            if (cache := self.named.get(name)) is not None:
                return cache
        return None

    @property
    def is_masked(self) -> bool:
        """Whether an attention mask of any shape is given."""
        return self.named.get("attention_mask") is not None

    @property
    def mask(self) -> Tensor | None:
        """The attention mask, if it shows which tokens are padding: one of 2-D."""
        mask = self.named.get("attention_mask")
        return mask if isinstance(mask, Tensor) and mask.dim() == 2 else None


class Engine:
    """What a decoder asks of the one who runs it. A subclass answers what it claims."""

    def claims(self, call: ForwardCall) -> bool:
        """Whether this forward is the engine's. Asked in every call.

        Before torch.compile traces a forward its arguments have no values yet: they are ``...``.
        """
        raise NotImplementedError

    def token_slot(self, call: ForwardCall, state: DeviceState) -> Tensor:
        """The slot of each row, int32 ``[>= rows]``, on the device of ``state``."""
        raise SteeringError(f"{type(self).__name__} runs no forward that asks Python")

    def prepare_trace(self, states: Sequence[DeviceState]) -> None:
        """Called before torch.compile traces a forward that the engine claims.

        SteeringError if it cannot be: what torch.compile cannot trace it would run as it is.
        """
        if type(self).traced_token_slot is Engine.traced_token_slot:
            self._refuse_traces()

    def prepare_capture(self, states: Sequence[DeviceState]) -> None:
        """Called in forwards of any engine on a GPU, before one that a CUDA graph captures."""

    def traced_token_slot(self, call: ForwardCall, state: DeviceState) -> Tensor:
        """As `token_slot`, for a forward that is traced: tensor operations only.

        Called once for all calls to come, so that what may change is read from tensors.
        """
        self._refuse_traces()

    def _refuse_traces(self) -> NoReturn:
        raise SteeringError(
            f"forwards of {type(self).__name__} cannot be compiled or captured: run the model as"
            " it is"
        )

    def replacements(self, model: nn.Module) -> list[ReplacedMethod]:
        """Methods of the model that generates to be replaced while it is patched."""
        return []

    def check_idle(self) -> None:
        """SteeringError while steered requests run: the model cannot be unpatched then."""

    def leave(self) -> None:
        """The model is unpatched now."""
