"""The row operations, one file per backend, behind one choice: `select`."""

from emokernel.ops.backends import BACKENDS, Backend, available, select

__all__ = ["BACKENDS", "Backend", "available", "select"]
