"""Fetch the weights that tests need; exit 1 and say why on stdout if they cannot be had."""

import sys

from emokernel.errors import FetchError
from emokernel.weights import KNOWN, fetched

for name in KNOWN:
    try:
        fetched(name)
    except FetchError as error:
        print(error)
        sys.exit(1)
