"""Fetch the weights that tests need; exit 1 and say why on stdout if they cannot be had.

Weights other than those that are expected are no such reason: that is an error like any other.
"""

import sys

from emokernel.errors import FetchError, WrongWeightsError
from emokernel.weights import KNOWN, fetched

reasons = []
for name in KNOWN:
    try:
        fetched(name)
    except WrongWeightsError:
        raise
    except FetchError as error:
        reasons.append(str(error))
if reasons:
    print(*reasons, sep="; ")
    sys.exit(1)
