"""transformers' continuous batching, with a different emotion for each request.

A manager runs the model in a thread of its own, on batches in which prompts, pieces of prompts and
single tokens of many requests stand side by side. `running` knows what each request asked for,
`prefixes` keeps cached blocks apart, `managed` joins them to a manager and says which row of a
batch is whose, and `engine` joins it to a patched model.
"""

from emokernel.engines.continuous.engine import ContinuousBatching

__all__ = ["ContinuousBatching"]
