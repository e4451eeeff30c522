"""The files of the page: what is served, with which headers, and that nothing else is."""

import re
from pathlib import Path

import pytest
from serve.front.calls import ask
from starlette.applications import Starlette

import emokernel.serve.page
from emokernel.serve.page.routes import page_routes

STATIC = Path(emokernel.serve.page.__file__).parent / "static"
FILES = sorted(each for each in STATIC.rglob("*") if each.is_file())
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg"}


@pytest.fixture(scope="module")
def app():
    return Starlette(routes=page_routes())


def address(file):
    path = file.relative_to(STATIC).as_posix()
    return "/" if path == "index.html" else f"/page/{path}"


@pytest.mark.parametrize("file", FILES, ids=address)
def test_each_file_is_served_as_it_is_and_once(app, file):
    answer = ask(app, address(file), method="GET")
    assert (answer.status, answer.body) == (200, file.read_bytes())
    assert answer.head["content-type"].startswith(TYPES[file.suffix])
    assert answer.head["x-content-type-options"] == "nosniff"
    again = ask(app, address(file), method="GET", headers=[("if-none-match", answer.head["etag"])])
    assert (again.status, again.body) == (304, b"")


def test_nothing_but_the_page_itself_may_run_or_be_asked(app):
    policy = ask(app, "/", method="GET").head["content-security-policy"]
    told = dict(part.split(" ", 1) for part in policy.split("; "))
    assert told["default-src"] == "'none'"
    allowed = {name: value for name, value in told.items() if value != "'none'"}
    assert {value for name, value in allowed.items() if name.endswith("-src")} == {"'self'"}
    assert allowed["require-trusted-types-for"] == "'script'"


@pytest.mark.parametrize(
    "path", ["/page/", "/page/none.js", "/page/../routes.py", "/page/%2e%2e/routes.py", "/page"]
)
def test_no_other_file_is_served(app, path):
    assert ask(app, path, method="GET").status == 404


def test_no_file_leads_to_another_server_or_writes_markup():
    for file in FILES:
        text = file.read_text()
        addresses = set(re.findall(r"https?://[^\s\"'<>)]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
