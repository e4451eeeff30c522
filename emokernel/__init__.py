"""emokernel: emotion steering inside the kernels a language model runs anyway."""

__version__ = "0.1.0"
