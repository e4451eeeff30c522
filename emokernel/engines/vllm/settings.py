"""What a server was asked to do: ``--additional-config``, or variables of the environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from emokernel.errors import SteeringError
from emokernel.ops.backends import load
from emokernel.reference import MAX_COMPONENTS

KEY = "emokernel"
VARIABLES = "EMOKERNEL_VLLM_"
# Beside the settings in the same place, for vLLM's compilation cache (`compile_key`).
_COMPILED = "compiled"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The choices of `emokernel.patch`, and three of this engine's own.

    ``vectors``: a file or folder that `EmotionVectors.load` reads. ``exact``: requests that ask for
    nothing get the bits of a vLLM without the plugin, by an operation behind vLLM's own norm; else
    one fused operation stands in the place of both. ``any_version``: run on a version of vLLM that
    this was not tried with. ``judge``: passed on to the server, whose texts it reads. Raises
    SteeringError for values of another type.
    """

    vectors: str
    site: str | None = None
    law: str | None = None
    dose: str | None = None
    layers: tuple[int, ...] | None = None
    positions: str | None = None
    mapping: str | None = None
    coordinates: str | None = None
    calibrated: bool | None = None
    preset: str | None = None
    backend: str | None = None
    judge: str | None = None
    exact: bool = True
    any_version: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value, default = getattr(self, field.name), field.default
            kind = _kind(field.name)
            if type(value) is not kind and (value is not None or default is not None):
                raise SteeringError(f"{field.name} of {KEY} needs {_NEEDS[kind]}, got {value!r}")
        if self.backend is not None:
            load(self.backend)

    @property
    def given(self) -> dict[str, Any]:
        """What was said, as JSON."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in said.items() if value is not None}


_NEEDS = {str: "a text", bool: "true or false", tuple: "a list of layer numbers"}


def _kind(name: str) -> type:
    return {"layers": tuple, "calibrated": bool, "exact": bool, "any_version": bool}.get(name, str)


def read(
    additional_config: object, environment: Mapping[str, str] | None = None
) -> Settings | None:
    """The settings in vLLM's ``additional_config``, else in ``environment``; None without any.

    Each may say some; of one that both say, the first holds. SteeringError for an unknown name, and
    for settings without vectors.
    """
    said = additional_config.get(KEY) if isinstance(additional_config, Mapping) else None
    if said is not None and not isinstance(said, Mapping):
        raise SteeringError(f"{KEY} of additional_config is no object with settings: {said!r}")
    variables = {
        name.removeprefix(VARIABLES).lower(): _value(text)
        for name, text in (environment or {}).items()
        if name.startswith(VARIABLES)
    }
    given = {**variables, **(said or {})}
    given.pop(_COMPILED, None)
    if not given:
        return None
    known = [field.name for field in fields(Settings)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SteeringError(
            f"unknown settings of {KEY}: {', '.join(unknown)}; it knows {', '.join(known)}"
        )
    if not given.get("vectors"):  # an empty path would be the folder that the server runs in
        raise SteeringError(f"{KEY} was given {', '.join(given)}, but no file of vectors: name it")
    if isinstance(given.get("layers"), list):
        layers = given["layers"]
        if all(type(layer) is int for layer in layers):
            given["layers"] = tuple(layers)
    path = Path(given["vectors"]) if isinstance(given["vectors"], str) else None
    if path is not None and path.exists():  # workers may run in another folder
        given["vectors"] = str(path.absolute())
    return Settings(**given)


def _value(text: str) -> object:
    """A variable: JSON where it is (numbers, lists, true), else the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | list) else text


def compile_key(
    settings: Settings, *, version: str, site: str, layers: list[int], vectors: int, slots: int,
    dtype: str, backend: str | None,
) -> dict[str, Any]:  # fmt: skip
    """What stands in ``additional_config`` of a server that steers.

    vLLM hashes it into the key of what it has compiled: all that the traced operations depend on is
    in it, and what the vectors hold is not.
    """
    operation = "steer_rms_norm_" if settings.exact else "add_steer_rms_norm"
    compiled = {
        "version": version, "site": site, "layers": layers, "vectors": vectors, "slots": slots,
        "components": MAX_COMPONENTS, "dtype": dtype, "operation": operation, "backend": backend,
    }  # fmt: skip
    return {**settings.given, _COMPILED: compiled}


def is_compile_key(additional_config: Any) -> bool:
    """Whether `compile_key` is in it."""
    return _COMPILED in additional_config[KEY]
