"""Of a server there is nothing to test where its packages are not installed."""

import warnings
from importlib.util import find_spec

if find_spec("fastapi") is None:
    collect_ignore_glob = ["front/*", "schemas/*"]
    warnings.warn("tests of the server left out: pip install 'emokernel[serve]'", stacklevel=1)
