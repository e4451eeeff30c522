"""What is told is tested on the embedded model, as our own server tells it."""

import pytest

pytest.importorskip("fastapi", reason="pip install 'emokernel[serve]'")

from serve.emotions.conftest import embedded, served

__all__ = ["embedded", "served"]
