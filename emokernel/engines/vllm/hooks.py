"""The one place that touches vLLM's classes: some methods and a function, in every process.

What stands around them does nothing in a server that was not asked to steer, but refuse a request
that asks for an emotion.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any, Protocol

from emokernel.engines.vllm import asked, prefix_cache, settings, supported
from emokernel.engines.vllm.runner import Vectors, check_fits, steer_when_loaded
from emokernel.engines.vllm.settings import Settings
from emokernel.errors import EmokernelError, SteeringError
from emokernel.state import Asked

# vLLM is there where this is called, and nowhere else.
# pyright: reportMissingImports=false


class Resolving(Vectors, Protocol):
    """Vectors whose emotions have ``names``; ``told`` is what they are, for people."""

    names: Sequence[str]
    told: str

    def resolve(self, extra_args: dict[str, Any]) -> Asked:
        """What a request asks for; EmokernelError if it cannot be. Takes its fields out."""
        ...


Load = Callable[[Settings], Resolving]

# The process of vLLM that looks at the class of a model and ends.
_INSPECTS = "vllm.model_executor.models.registry"


def install(load: Load) -> None:
    """Put the hooks into this process; once, whatever the number of calls.

    ``load`` gives the vectors of settings, the same each time. Raises what vLLM's classes lack in
    a version that is unknown.
    """
    main = sys.modules.get("__main__")
    if getattr(getattr(main, "__spec__", None), "name", None) == _INSPECTS:
        return
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.core import kv_cache_utils
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.engine.input_processor import InputProcessor
    from vllm.v1.worker.worker_base import WorkerBase, WorkerWrapperBase

    around_method(EngineArgs, "create_engine_config", functools.partial(_create_config, load))
    around_method(InputProcessor, "process_inputs", functools.partial(_process_inputs, load))
    around_method(EngineCore, "_initialize_kv_caches", _begin_core)
    around_method(EngineCore, "preprocess_add_request", _add_request)
    around_method(WorkerWrapperBase, "init_device", functools.partial(_init_device, load))
    WorkerBase.emokernel_status = _worker_status
    EngineCore.emokernel_status = _core_status
    around_function(kv_cache_utils, "generate_block_hash_extra_keys", prefix_cache.extra_keys)


def around_method(owner: type, name: str, around: Callable) -> None:
    """Let ``around(original, self, ...)`` be called in the place of a method of a class."""
    original = vars(owner)[name]
    if not hasattr(original, "emokernel"):
        replaced = functools.wraps(original)(
            lambda *args, **kwargs: around(original, *args, **kwargs)
        )
        replaced.emokernel = True  # pyright: ignore[reportAttributeAccessIssue]
        setattr(owner, name, replaced)


def around_function(module: Any, name: str, around: Callable) -> None:
    """As `around_method` of a function, in all modules that have imported it."""
    original = getattr(module, name)
    if hasattr(original, "emokernel"):
        return
    replaced = functools.wraps(original)(lambda *args, **kwargs: around(original, *args, **kwargs))
    replaced.emokernel = True  # pyright: ignore[reportAttributeAccessIssue]
    for each in list(sys.modules.values()):
        # Not getattr: the lazy modules of transformers would import.
        if getattr(each, "__dict__", {}).get(name) is original:
            setattr(each, name, replaced)


def settings_of(config: Any) -> Settings | None:
    """What a server with this ``VllmConfig`` was asked to do."""
    return settings.read(config.additional_config)


def _create_config(load: Load, original: Callable, args: Any, *more: Any, **kwargs: Any) -> Any:
    """In the process that starts the server: refuse what cannot be, and write the compile key."""
    said = settings.read(args.additional_config, os.environ)
    if said is None:
        return original(args, *more, **kwargs)
    # vLLM chooses V2 on a GPU where nothing is said; its processes inherit the variable.
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
    config = original(args, *more, **kwargs)
    _check_supported(config, said)
    model = config.model_config
    vectors = load(said)
    check_fits(vectors, model.get_total_num_hidden_layers(), model.get_hidden_size())
    if not isinstance(config.additional_config, dict):
        raise SteeringError("emokernel needs additional_config to be a dictionary, as of JSON")
    config.additional_config[settings.KEY] = settings.compile_key(
        said, version=version("emokernel"), site=vectors.site, layers=vectors.layers,
        vectors=vectors.tensor.shape[1], slots=config.scheduler_config.max_num_seqs,
        dtype=str(model.dtype), backend=said.backend or os.environ.get("EMOKERNEL_BACKEND"),
    )  # fmt: skip
    form = "exact" if said.exact else "fused"
    logging.getLogger("vllm.emokernel").info("Requests can be steered: %s; %s", vectors.told, form)
    return config


def _check_supported(config: Any, said: Settings) -> None:
    import vllm.envs as envs
    from vllm.version import __version__

    supported.check_version(__version__, said)
    supported.check_config(config, rust=envs.VLLM_USE_RUST_FRONTEND)


def _process_inputs(
    load: Load, original: Callable, processor: Any, request_id: str, prompt: Any, params: Any,
    *args: Any, **kwargs: Any,
) -> Any:  # fmt: skip
    """In the front end: from what a request says to numbers; vLLM's 400 for what cannot be."""
    said = settings_of(processor.vllm_config)
    packed = check_request(load, said, params)
    if kwargs.get("resumable"):
        _check_session(request_id, packed)
    made = original(processor, request_id, prompt, params, *args, **kwargs)
    sampling = made.sampling_params
    extra = (sampling and sampling.extra_args) or {}
    if said is not None and asked.FIELDS & extra.keys():
        # Anew: vLLM's copy of the parameters may share it with the caller's.
        kept = {name: value for name, value in extra.items() if name not in asked.FIELDS}
        sampling.extra_args = {**kept, **({asked.KEY: packed} if packed else {})} or None
    return made


def check_request(load: Load, said: Settings | None, params: Any) -> dict[str, Any] | None:
    """`asked.packed` of what a request asks for in ``extra_args``; vLLM's 400 if it cannot be."""
    extra = dict(getattr(params, "extra_args", None) or {})
    if not extra.keys() & (asked.FIELDS | {asked.KEY}):
        return None
    from vllm.exceptions import VLLMValidationError

    try:
        return _packed(load, said, extra)
    except EmokernelError as error:
        raise VLLMValidationError(str(error), parameter="emotion") from error


def _packed(load: Load, said: Settings | None, extra: dict[str, Any]) -> dict[str, Any] | None:
    if asked.KEY in extra:
        raise SteeringError(f"{asked.KEY} in extra_args is reserved: send emotion instead")
    if said is None:
        if asked.ASKING & extra.keys():
            raise SteeringError(
                "this server has no emotion vectors: start it with"
                """ --additional-config '{"emokernel": {"vectors": "FILE"}}'"""
            )
        return None
    vectors = load(said)
    return asked.packed(vectors.resolve(extra), vectors.of)


# (Which session runs in this context, how it began): vLLM adds the inputs of one in one task.
_session: ContextVar[tuple[str, object] | None] = ContextVar("session", default=None)


def _check_session(request_id: str, packed: dict[str, Any] | None) -> None:
    """vLLM's 400 for an input of a streamed session that would change what was computed before.

    vLLM makes prompt of what the session has generated, and evicts and computes again by what holds
    then; its blocks keep the hashes that they had.
    """
    from vllm.exceptions import VLLMValidationError

    if packed is not None and not all(asked.KINDS[packed["kinds"]]):
        raise VLLMValidationError(
            "a session whose input is streamed makes prompt of what it has generated, so it can be"
            " steered at positions 'all' only",
            parameter="positions",
        )
    began, now = _session.get(), None if packed is None else packed["key"]
    if began is None or began[0] != request_id:
        _session.set((request_id, now))
    elif began[1] != now:
        raise VLLMValidationError(
            "a session whose input is streamed keeps the emotion that it began with: begin another",
            parameter="emotion",
        )


def _begin_core(original: Callable, core: Any, *args: Any, **kwargs: Any) -> Any:
    """In the core: its workers have loaded the model; ask them whether they steer it.

    Its `__init__` has called the plugin itself, so that this is the first step it can stand around.
    """
    steers = settings_of(core.vllm_config) is not None
    core.emokernel_of = _core_status(core)["of"] if steers else None
    return original(core, *args, **kwargs)


def _add_request(original: Callable, core: Any, request: Any) -> Any:
    asked.check(request.sampling_params, getattr(core, "emokernel_of", None))
    return original(core, request)


def _init_device(load: Load, original: Callable, wrapper: Any, *args: Any, **kwargs: Any) -> Any:
    """In a worker: its runner is there now, and its model not yet."""
    made = original(wrapper, *args, **kwargs)
    said = settings_of(wrapper.vllm_config)
    if said is not None:
        _check_supported(wrapper.vllm_config, said)
        if not settings.is_compile_key(wrapper.vllm_config.additional_config):
            raise SteeringError(
                "this VllmConfig was not made by EngineArgs, so that its compilation cache knows"
                " nothing of emokernel: start vLLM by LLM(...), vllm serve or EngineArgs"
            )
        steer_when_loaded(wrapper.worker.model_runner, said, load)
    return made


def _worker_status(worker: Any) -> dict[str, Any] | None:
    """What one worker steers; None for nothing."""
    steered = getattr(worker.model_runner, "emokernel", None)
    return None if steered is None else {"of": steered.of, "layers": steered.layers}


def _core_status(core: Any) -> dict[str, Any]:
    """What the workers of a core steer; SteeringError unless all do, by the same vectors."""
    workers = core.model_executor.collective_rpc("emokernel_status")
    if None in workers or len({each["of"] for each in workers}) != 1:
        raise SteeringError("not every worker steers, or not by the same vectors: see its log")
    layers = sorted({layer for each in workers for layer in each["layers"]})
    return {"of": workers[0]["of"], "layers": layers}
