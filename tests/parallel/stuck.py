"""A program for `launcher.run_ranks` in which rank 0 waits and rank 1 does as the folder's name."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

print("waiting for the others", flush=True)
if os.environ["RANK"] == "1" and Path(sys.argv[1]).name == "fails":
    sys.exit("something is wrong")
time.sleep(300)
