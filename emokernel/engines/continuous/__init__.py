"""transformers' continuous batching, with a different emotion for each request.

A manager runs the model in a thread of its own, on batches in which prompts, pieces of prompts and
single tokens of many requests stand side by side. `tickets` says what each request asked for,
`rows` which row of a batch is whose, `prefixes` keeps cached blocks apart, `managed` joins them
to a manager, and `batching` to a patched model.
"""

from emokernel.engines.continuous.batching import ContinuousBatching
from emokernel.engines.continuous.rows import packed_rows

__all__ = ["ContinuousBatching", "packed_rows"]
