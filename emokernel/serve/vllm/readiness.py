"""Whether a vLLM server that is started here would steer: what a server cannot tell from inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from emokernel.engines.vllm import settings, supported
from emokernel.engines.vllm.settings import Settings
from emokernel.errors import EmokernelError
from emokernel.serve.vllm.named import NamedVectors

_GROUP, _NAME = "vllm.general_plugins", "emokernel"
_GIVE = 'give them in --additional-config \'{"emokernel": {"vectors": "FILE"}}\' or in'


def checks(
    additional_config: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[tuple[str, bool, str]]:
    """(What was looked at, whether it is well, how it is) of a server with this configuration."""
    try:
        said: Settings | None = settings.read(additional_config, environment)
        refused = ""
    except EmokernelError as error:
        said, refused = None, str(error)
    yield _vllm(said)
    found = [each for each in entry_points(group=_GROUP) if each.name == _NAME]
    yield "plugin", bool(found), (
        f"vLLM finds it ({found[0].value})" if found
        else "vLLM does not find it: install emokernel with pip in vLLM's environment"
    )  # fmt: skip
    allowed = environment.get("VLLM_PLUGINS")
    left_out = allowed is not None and _NAME not in allowed.split(",")
    yield "VLLM_PLUGINS", not left_out, (
        "not set: all plugins are loaded" if allowed is None
        else f"{allowed!r}: add {_NAME} to it, or vLLM steers nothing and says nothing" if left_out
        else f"{allowed!r} names it"
    )  # fmt: skip
    if environment.get("VLLM_USE_RUST_FRONTEND", "0") not in ("", "0"):
        yield "front end", False, "the one in Rust has no plugins: unset VLLM_USE_RUST_FRONTEND"
    yield _vectors(said, refused)


def _vllm(said: Settings | None) -> tuple[str, bool, str]:
    if find_spec("vllm") is None:
        return "vLLM", False, "not installed: see docs/vllm.md"
    from vllm.version import __version__  # pyright: ignore[reportMissingImports]

    try:
        supported.check_version(__version__, said or Settings(vectors=""))
    except EmokernelError as error:
        return "vLLM", False, str(error)
    tried = __version__.partition("+")[0] in supported.TRIED
    return "vLLM", True, f"{__version__}, {'tried' if tried else 'not tried, forced'}"


def _vectors(said: Settings | None, refused: str) -> tuple[str, bool, str]:
    if refused:
        return "vectors", False, refused
    if said is None:
        return "vectors", False, f"none are said: {_GIVE} {settings.VARIABLES}VECTORS"
    try:
        vectors = NamedVectors(said)
    except (EmokernelError, OSError) as error:
        return "vectors", False, str(error)
    return "vectors", True, vectors.told
