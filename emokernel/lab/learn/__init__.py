"""Learning emotion vectors by gradient, in a patched model whose own weights stay as they are."""

from emokernel.learn.compare import Comparison, compare
from emokernel.learn.dose import requests_at_dose
from emokernel.learn.learned import Learned
from emokernel.learn.policy import PolicyGradient
from emokernel.learn.train import learn_vectors

__all__ = [
    "Comparison",
    "Learned",
    "PolicyGradient",
    "compare",
    "learn_vectors",
    "requests_at_dose",
]
