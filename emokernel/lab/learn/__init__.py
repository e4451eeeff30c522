"""Learning emotion vectors by gradient, in a patched model whose own weights stay as they are."""

from emokernel.lab.learn.comparison import Comparison, compare, requests_at_dose
from emokernel.lab.learn.learned import Learned
from emokernel.lab.learn.likelihood import Likelihood
from emokernel.lab.learn.policy import PolicyGradient
from emokernel.lab.learn.train import learn_vectors

__all__ = [
    "Comparison",
    "Learned",
    "Likelihood",
    "PolicyGradient",
    "compare",
    "learn_vectors",
    "requests_at_dose",
]
