"""The plugin that vLLM finds by its entry point; nothing else imports this module.

vLLM logs an error of this module's import and runs on, unsteered. So nothing is imported here that
could fail.
"""

import logging
import os


def register() -> None:
    """Called by vLLM in each of its processes; steers nothing unless the server is asked to.

    Where emokernel cannot be put into this vLLM, a server that is asked to steer does not start:
    RuntimeError with the reason. Others run on, with a warning.
    """
    try:
        from emokernel.serve.vllm import install

        install()
    except Exception as error:
        _refuse_to_steer(error)


def _refuse_to_steer(error: Exception) -> None:
    from vllm.engine.arg_utils import EngineArgs

    what = (
        f"emokernel cannot be put into this vLLM ({type(error).__name__}: {error}): install"
        " versions that docs/vllm.md names, or uninstall emokernel"
    )
    logging.getLogger("vllm.emokernel").warning("%s. Nothing is steered here.", what)
    original = EngineArgs.create_engine_config

    def create_engine_config(self, *args, **kwargs):
        said = self.additional_config
        asked = isinstance(said, dict) and "emokernel" in said
        if asked or any(name.startswith("EMOKERNEL_VLLM_") for name in os.environ):
            raise RuntimeError(what) from error
        return original(self, *args, **kwargs)

    EngineArgs.create_engine_config = create_engine_config
