"""Which class of transformers loads a model that generates text."""

from __future__ import annotations

from typing import Any

from emokernel.errors import ModelStructureError


def model_class(config: Any) -> Any:
    """The Auto class for a config: of language models, or of those that read images besides.

    Where several fit, the one whose model the config names. ModelStructureError if none does.
    """
    import transformers

    kinds = [
        kind
        for name in ("CausalLM", "ImageTextToText", "MultimodalLM")
        if (kind := getattr(transformers, f"AutoModelFor{name}", None)) is not None
    ]
    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return kinds[0]  # code of the repository's own
    fitting = [kind for kind in kinds if type(config) in kind._model_mapping]
    if not fitting:
        raise ModelStructureError(
            f"a model of the type {config.model_type!r} does not generate text from a decoder:"
            " give a causal language model, or one that reads images besides"
        )
    named = set(getattr(config, "architectures", None) or ())
    return next((kind for kind in fitting if _names(kind, config) & named), fitting[0])


def _names(kind: Any, config: Any) -> set[str]:
    models = kind._model_mapping[type(config)]
    return {each.__name__ for each in (models if isinstance(models, tuple) else (models,))}
