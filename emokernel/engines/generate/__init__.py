"""Plain forward calls and `generate` of transformers, in which Python decides every call's rows."""

from emokernel.engines.generate.engine import PlainForwards

__all__ = ["PlainForwards"]
