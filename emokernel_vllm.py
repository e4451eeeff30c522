"""The plugin that vLLM finds by its entry point; nothing else imports this module.

vLLM logs an error of this module's import and runs on, unsteered, but lets an error of `register`
end the process. So nothing is imported here that could fail.
"""


def register() -> None:
    """Called by vLLM in each of its processes; steers nothing unless the server is asked to."""
    from emokernel.serve.vllm import install

    install()
