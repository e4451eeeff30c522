"""What generates for the handlers of transformers' server: one manager for all requests at once,
one for a request after the other.

A handler knows neither the emotion of a request nor how it is sampled. Both stand in `wish`, a
context variable that the route sets.
"""

from __future__ import annotations

from emokernel.serve.engine.batched import Batched
from emokernel.serve.engine.one_by_one import OneByOne
from emokernel.serve.engine.turns import Turns
from emokernel.serve.engine.wishes import Wish, wish

__all__ = ["Batched", "OneByOne", "Turns", "Wish", "wish"]
