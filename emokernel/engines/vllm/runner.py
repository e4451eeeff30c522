"""vLLM's model runner (V1), steered: what is replaced on one instance of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from emokernel.engines.vllm.asked import held
from emokernel.engines.vllm.norms import steer_norm
from emokernel.engines.vllm.proof import decoder_of
from emokernel.engines.vllm.rows import StepRows
from emokernel.engines.vllm.settings import Settings
from emokernel.errors import ModelStructureError, SteeringError
from emokernel.ops import select
from emokernel.replaced import Around
from emokernel.state import DeviceState


class Vectors(Protocol):
    """The vectors that a server steers by: ``tensor [L, E, d]`` fp32, zero where it does not.

    ``profile [L]`` multiplies the weights of each layer; ``of`` tells these vectors, their site,
    layers and profile from all others.
    """

    tensor: Tensor
    profile: Tensor | None
    layers: list[int]
    site: str
    of: str


def check_fits(vectors: Vectors, layers: int, d: int) -> None:
    """ModelStructureError if a model has another size than the one they were made for."""
    has, _, width = vectors.tensor.shape
    if (has, width) != (layers, d):
        raise ModelStructureError(
            f"the vectors are for {has} layers of width {width}, the model has {layers} of {d}:"
            " name the file that was made for it"
        )


class SteeredRunner:
    """The state of a worker that steers, made when its model has been loaded."""

    def __init__(self, runner: Any, settings: Settings, vectors: Vectors) -> None:
        config = runner.vllm_config
        dtype, device = config.model_config.dtype, torch.device(runner.device)
        check_fits(
            vectors, config.model_config.get_total_num_hidden_layers(),
            config.model_config.get_hidden_size(),
        )  # fmt: skip
        decoder = decoder_of(runner.get_model(), vectors.tensor.shape[2], dtype, device)
        slots = config.scheduler_config.max_num_seqs
        self.state = DeviceState(vectors.tensor, slots, device, dtype, vectors.profile)
        self.rows = StepRows(self.state, runner.max_num_tokens)
        self.of, self.layers = vectors.of, []
        backend = select(device, settings.backend)
        for layer, norm in decoder.norms(vectors.site):
            if layer in vectors.layers:
                steer_norm(
                    norm, settings.exact, backend, self.state.tables[layer], self.rows.token_slot
                )
                self.layers.append(layer)
        self._runner = runner
        self._ids: list[str | None] = []

    def install(self) -> None:
        """Replace the methods of the runner that prepare a step."""
        for name, around in (("_prepare_inputs", self._prepare), ("_dummy_run", self._dummy)):
            Around(self._runner, name, around).install()

    def _prepare(
        self, original: Callable, scheduler_output: Any, num_scheduled_tokens: Any
    ) -> object:
        """Write the rows of a step, when the order of its requests is settled."""
        made = original(scheduler_output, num_scheduled_tokens)
        batch = self._runner.input_batch
        total = batch.num_reqs
        ids = batch.req_ids[:total]
        # A request that is there already may be said anew, with other parameters.
        if scheduler_output.scheduled_new_reqs or ids != self._ids:
            self._ids = list(ids)
            requests = self._runner.requests
            self.rows.batch([held(requests[each].sampling_params) for each in ids])
        computed, prompts = batch.num_computed_tokens_cpu, batch.num_prompt_tokens
        self.rows.step(computed[:total], prompts[:total], num_scheduled_tokens)
        return made

    def _dummy(self, original: Callable, *args: Any, **kwargs: Any) -> object:
        """A run of no request, to warm up or for a graph that is captured."""
        with self._runner.synchronize_input_prep():
            self.rows.clear()
        return original(*args, **kwargs)


def steer_when_loaded(runner: Any, settings: Settings, load: Callable[[Settings], Vectors]) -> None:
    """Steer the model of ``runner`` as soon as vLLM has loaded it.

    SteeringError for a runner that this is not for.
    """
    needed = (
        "_prepare_inputs", "_dummy_run", "load_model", "get_model", "synchronize_input_prep",
    )  # fmt: skip
    if not all(hasattr(runner, name) for name in needed):
        raise SteeringError(
            f"{type(runner).__module__} is no model runner that emokernel knows: use V1"
            " (VLLM_USE_V2_MODEL_RUNNER=0)"
        )

    def load_model(original: Callable, *args: Any, **kwargs: Any) -> object:
        made = original(*args, **kwargs)
        runner.emokernel = SteeredRunner(runner, settings, load(settings))
        runner.emokernel.install()
        return made

    Around(runner, "load_model", load_model).install()
