"""Vectors that are being learned: a parameter that the adds of a patched model read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.errors import SteeringError
from emokernel.state import DeviceState
from emokernel.vectors import EmotionVectors


class Learned:
    """The vectors of some emotions in some layers while they are learned.

    ``parameter`` ``[layers, emotions, d]`` fp32 is the leaf for an optimiser of any kind, in units
    of the root mean square of each vector as it was at the start: one learning rate serves all
    layers and models. ``names`` and ``layers`` say what its first two dimensions are. A vector that
    was zero in a layer stays zero there.
    """

    def __init__(
        self,
        vectors: EmotionVectors,
        basis: Tensor,
        emotions: Iterable[str] | None,
        layers: Sequence[int],
        device: torch.device,
    ) -> None:
        """basis ``[L, E, d]`` fp32: ``vectors``, and perhaps more behind them.

        UnknownEmotionError, or SteeringError if there is nothing to learn.
        """
        chosen = [emotions] if isinstance(emotions, str) else emotions
        self.names = tuple(dict.fromkeys(vectors.names if chosen is None else chosen))
        self.layers = tuple(layers)
        self._numbers = torch.tensor([vectors.index(name) for name in self.names], dtype=torch.long)
        if not self.names:
            raise SteeringError("no emotions to learn: name some that the vectors have")
        self._start, self._basis = vectors, basis
        rows = basis[list(layers)][:, self._numbers]
        self._unit = rows.square().mean(-1, keepdim=True).sqrt()
        absent = [
            n for n, unit in zip(self.names, self._unit.unbind(1), strict=True) if not unit.any()
        ]
        if absent:
            raise SteeringError(
                f"the vectors of {', '.join(map(repr, absent))} are zero in the steered layers, and"
                " a direction is needed to start from: extract them, or begin with random ones"
            )
        start = torch.where(self._unit > 0, rows / self._unit, 0.0)
        self.parameter = nn.Parameter(start.to(device))
        self._unit = self._unit.to(device)
        self._fixed: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @property
    def rows(self) -> Tensor:
        """The vectors as they are now, ``[layers, emotions, d]`` in the units of the model."""
        return self.parameter * self._unit

    @torch.no_grad()
    def project(self) -> None:
        """Give every vector back the norm that it had in each layer at the start.

        Called after each step of the optimiser it makes learning a matter of directions; without
        it the dose is learned too. A relative dose counts in the norms of the start.
        """
        norms = self.parameter.norm(dim=-1, keepdim=True)
        scale = torch.where(norms > 0, self.parameter.shape[-1] ** 0.5 / norms, 0.0)
        self.parameter.mul_(scale)

    def bases(self, state: DeviceState) -> list[Tensor]:
        """The basis ``[E, d]`` fp32 of each layer, on the device of a state.

        With gradients they lead to ``parameter``. SteeringError if that is no longer fp32.
        """
        if self.parameter.dtype is not torch.float32:
            raise SteeringError(
                f"vectors are learned in float32, but their parameter was cast to"
                f" {self.parameter.dtype}: cast the model alone"
            )
        device = state.device
        if device not in self._fixed:
            with torch.inference_mode(False):
                self._fixed[device] = self._basis.to(device), self._numbers.to(device)
        basis, numbers = self._fixed[device]
        bases = list(basis.unbind(0))
        # Layer by layer: reentrant checkpointing runs backward through each of them by itself.
        parts = zip(self.layers, self.parameter.unbind(0), self._unit.unbind(0), strict=True)
        for layer, part, unit in parts:
            bases[layer] = bases[layer].index_copy(0, numbers, (part * unit).to(device))
        return bases

    def vectors(self, made_from: Mapping[str, Any] | None = None) -> EmotionVectors:
        """All vectors of the model, the learned ones as they are now.

        ``made_from``: what they were learned from, such as the objective and its data, for the
        provenance (JSON). Calibration and diagnostics held for the vectors of the start, so there
        are none. SteeringError for an emotion that is zero in every layer by now, or not finite.
        """
        from emokernel.lab.extract.provenance import versions

        start = self._start
        tensor = start.tensor.clone()
        rows = self.rows.detach().cpu()
        sound = rows.isfinite().all(-1).all(0) & rows.any(-1).any(0)
        lost = [
            repr(name) for name, fine in zip(self.names, sound.tolist(), strict=True) if not fine
        ]
        if lost:
            raise SteeringError(
                f"the learned vectors of {', '.join(lost)} are zero in every layer or not finite:"
                " learn again with a smaller learning rate or weight decay"
            )
        for place, layer in enumerate(self.layers):
            tensor[layer, self._numbers] = rows[place]
        record = {
            "emotions": list(self.names),
            "layers": list(self.layers),
            "started_from": start.digest(),
            "made_from": dict(made_from or {}),
            "versions": versions(),
        }
        provenance = dict(start.provenance)
        provenance["learned"] = [*provenance.get("learned", ()), record]
        return replace(
            start, tensor=tensor, provenance=provenance, diagnostics={}, calibration=None
        )


@contextmanager
def learning(
    model: nn.Module, states: Sequence[DeviceState], learned: Learned, train_model: bool
) -> Iterator[Learned]:
    """Within the block the adds of a patched model read ``learned``; see `Steering.learning`."""
    if torch.is_inference_mode_enabled():
        raise SteeringError("nothing can be learned within torch.inference_mode(): leave it first")
    if any(state.learned is not None for state in states):
        raise SteeringError(
            "vectors are being learned already: leave the first learning(...) block"
        )
    if any(state.plan_buffer is not None and state.plan_buffer.used for state in states):
        raise SteeringError(
            "the model was compiled or captured with the vectors as they were: patch it again, and"
            " learn before you compile it"
        )
    frozen = [] if train_model else [each for each in model.parameters() if each.requires_grad]
    try:
        for each in frozen:
            each.requires_grad_(False)
        for state in states:
            state.learned = learned.bases
        yield learned
    finally:
        for state in states:
            state.learned = None
        for each in frozen:
            each.requires_grad_(True)
