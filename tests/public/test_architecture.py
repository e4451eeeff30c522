"""What docs/architecture.md names is there: paths, dotted names, words of the source, rooms."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from public.surface import ROOT
from public.test_names import dotted

PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text("utf-8") if PAGE.exists() else ""
TREE = TEXT.partition("## The rooms")[2].partition("Imports go one way")[0]
FOLDERS = ("emokernel", "csrc", "tests", "benchmarks")
PATH = rf"(?:{'|'.join(FOLDERS)})/[\w./]*"
SOURCES = (".py", ".h", ".cpp", ".cu", ".cuh")
OF_THE_READER = {"MyEngine", "REPOSITORY"}

pytestmark = pytest.mark.skipif(not TEXT, reason="a source distribution has no docs/")


def named(pattern: str) -> list[str]:
    """What matches in backticks and in indented blocks, each once."""
    spans = re.findall(r"`([^`\n]+)`|^ {4,}(.+)", TEXT, re.M)
    return sorted({match for pair in spans for match in re.findall(pattern, "".join(pair))})


@cache
def there() -> list[Path]:
    """All folders and files of the source."""
    found = [path for each in FOLDERS for path in (ROOT / each, *(ROOT / each).rglob("*"))]
    return [*found, *ROOT.glob("*.py")]


@cache
def words() -> frozenset[str]:
    """All identifiers of the source, and what files and folders are called."""
    sources = [path for path in there() if path.suffix in SOURCES and path.is_file()]
    text = " ".join(path.read_text("utf-8") for path in sources)
    return frozenset(re.findall(r"\w+", text)) | {path.stem for path in there()}


@pytest.mark.parametrize("path", named(PATH))
def test_every_path_leads_somewhere(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", named(r"(?<![\w./])emokernel(?:\.\w+)+"))
def test_every_dotted_name_is_there(name):
    assert dotted(name) is not None


def test_every_name_is_one_of_the_source():
    """Classes, constants and names with an underscore; attributes too."""
    names = named(r"\b(?:[A-Z]\w*[a-zA-Z]\w*(?:\.\w+)*|[a-z]\w*_\w+)\b")
    assert len(names) > 50
    assert [n for n in names if n not in OF_THE_READER and not {*n.split(".")} <= words()] == []


def test_every_name_in_the_tree_is_there():
    names = re.findall(r"(?<![\w./])\w+(?:/|\.py)(?=[\s,;]|$)", TREE.partition("contracts")[0])
    known = {path.name for path in there()}
    assert len(names) > 40
    assert [name for name in names if name.removesuffix("/") not in known] == []


def test_every_room_stands_in_the_tree():
    rooms = [path for path in (ROOT / "emokernel").iterdir() if path.name[0] not in "_."]
    names = [path.name for path in rooms if path.suffix == ".py"]
    names += [f"{path.name}/" for path in rooms if (path / "__init__.py").exists()]
    assert [name for name in names if name not in TREE] == []
