"""emokernel: emotion steering inside the kernels a language model runs anyway."""

from emokernel.affect import Affect
from emokernel.errors import EmokernelError
from emokernel.moved import install
from emokernel.report import Report
from emokernel.requests import Request
from emokernel.steering import Steering, patch, steering_of
from emokernel.vectors import EmotionVectors

__version__ = "0.1.0"

install()
del install

__all__ = [
    "Affect",
    "EmokernelError",
    "EmotionVectors",
    "Report",
    "Request",
    "Steering",
    "__version__",
    "patch",
    "steering_of",
]
