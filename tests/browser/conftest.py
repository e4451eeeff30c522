"""A real Chromium, pages in it that may have no errors, and the servers that they are of."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from browser.chromium import launched, missing
from browser.watched import Watched

if find_spec("playwright") is None or find_spec("fastapi") is None:
    collect_ignore_glob = ["test_*"]
    warnings.warn(
        "the page is NOT TESTED in a browser: pip install -r requirements-dev.txt", stacklevel=1
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One browser for all tests."""
    driver = importlib.import_module("playwright.sync_api")
    if reason := missing():
        pytest.skip(f"NOT TESTED in a browser: {reason}")
    with driver.sync_playwright() as playwright:
        browser = launched(playwright)
        yield browser
        browser.close()


@pytest.fixture
def contexts(chromium: Any, scripted: Any) -> Iterator[Callable[..., Watched]]:
    """``contexts(origin, **options)``: somebody's browser, with nothing in it, watched to the end.

    The options are those of Playwright's ``new_context``. What went wrong in it and was not
    expected fails the test.
    """
    made: list[Watched] = []  # which are closed before the scripted server is

    def make(origin: str, **options: Any) -> Watched:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = chromium.new_context(**options)
        context.set_default_timeout(10_000)
        made.append(Watched(context, origin))
        return made[-1]

    yield make
    found = [each for watched in made for each in watched.found()]
    for watched in made:
        watched.context.close()
    assert not found


@pytest.fixture
def watched(contexts: Callable[..., Watched], scripted: Any) -> Watched:
    """Somebody's browser for pages of the scripted server."""
    return contexts(scripted.url)


@pytest.fixture
def scripted() -> Iterator[Any]:
    """A server that says what the test tells it to say, when the test tells it to."""
    server = importlib.import_module("browser.scripted").Scripted()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`emokernel serve` of the embedded model, whose texts are as long as they are asked to be."""
    for name in ("prometheus_client", "httpx", "psutil"):
        pytest.importorskip(name, reason="pip install -r requirements-dev.txt")
    processes = importlib.import_module("serving.server_process")
    folder = tmp_path_factory.mktemp("embedded")
    model = processes.embedded_for_chats(folder / "endless", endless=True)
    with processes.ServerProcess(model, key=None, threads=1) as server:
        yield server
