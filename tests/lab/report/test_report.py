"""The report: one page that needs nothing beside it, Markdown, pictures, and strict JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import report_samples
from html_page import Page

from emokernel.lab.evaluate.results import Results, Sample
from emokernel.lab.report import write_report
from emokernel.lab.report.page import charts, sections
from emokernel.lab.report.view import View
from emokernel.lab.report.write import html, markdown

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)> | [a](http://b.c)\n# *x* $a_$ 怒'
FEW = ("joy", "fear")
CASES: dict[str, Callable[[], Results]] = {
    "all": lambda: report_samples.results(emotions=FEW),
    "nothing": report_samples.nothing,
    "no numbers": lambda: report_samples.without_numbers(report_samples.results(emotions=FEW)),
    "one emotion, one judge, no ceiling": lambda: report_samples.results(
        emotions=["x" * 200], judges=["a/b"], laws=["add"], doses=[], ceilings=False
    ),
    "hostile": lambda: _hostile(),
}


def _hostile() -> Results:
    found = report_samples.results(emotions=[HOSTILE], judges=[HOSTILE])
    about = {**found.about, "model": {"name": HOSTILE}, "notes": [HOSTILE], HOSTILE: HOSTILE}
    texts = {HOSTILE: HOSTILE, "empty": " ", "怒り": "怒" * 3000, "half a smile": "\ud83d"}
    samples = [Sample(HOSTILE, 0, texts)]
    return dataclasses.replace(found, about=about, samples=samples)


@pytest.fixture(scope="module", params=CASES)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = write_report(folder, CASES[request.param]())
    assert {path.name for path in paths} == {path.name for path in folder.iterdir()}
    return folder


def _without_pictures(found: Results) -> str:
    """The page without its charts, which take seconds to draw."""
    page = [
        dataclasses.replace(each, parts=[p for p in each.parts if p.kind != "chart"])
        for each in sections(View(found))
    ]
    return html("report", page)


def _page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text("utf-8"))


def test_page_is_well_formed(written: Path) -> None:
    found = _page(written)
    assert found.tags[0] == ("html", {"lang": "en"})
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"#{each}" for each in ids} >= {
        link["href"] for link in found.all("a") if link["href"].startswith("#")
    }
    assert all(cell.get("scope") in ("row", "col") for cell in found.all("th"))
    assert len(found.all("caption")) == len(found.all("table"))
    assert all(len(image["alt"]) > 20 for image in found.all("img"))


def test_page_needs_nothing_else_and_runs_nothing(written: Path) -> None:
    found = _page(written)
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:image/svg+xml;base64,").startswith(
            "data:image/svg+xml;base64,"
        )
        if tag == "a":
            assert re.match(r"#[a-z]+$|https://arxiv\.org/abs/\d{4}\.\d{5}$", attributes["href"])
    assert "url(" not in found.styles
    assert "@import" not in found.styles


def test_readers_see_no_value_of_the_machine(written: Path) -> None:
    texts = [_page(written).text, (written / "report.md").read_text("utf-8")]
    for text in texts:
        assert not re.search(r"\b(?i:nan|inf)\b|\bNone\b|Interval\(|[{}]", text)


def test_json_is_strict_and_complete(written: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads((written / "results.json").read_text("utf-8"), parse_constant=refuse)
    assert set(found) == {field.name for field in dataclasses.fields(Results)}


def test_markdown_tables_have_their_columns_and_pictures(written: Path) -> None:
    text = (written / "report.md").read_text("utf-8")
    widths: list[int] = []
    for line in text.splitlines():
        if line.startswith("|"):
            widths.append(len(re.findall(r"(?<!\\)\|", line)))
            assert widths[-1] == widths[0]
        else:
            widths = []
    for picture in re.findall(r"\]\((\w+\.png)\)", text):
        assert (written / picture).read_bytes().startswith(b"\x89PNG")
    assert "<" not in text
    assert all(of.name in text for of in written.glob("*.png"))


def test_hostile_text_is_shown_as_it_is() -> None:
    source = _without_pictures(_hostile())
    assert "<script" not in source
    assert Page(source).text.count("<script>alert(1)</script>") > 10
    assert "(empty)" in source
    assert "[…]" in source


def test_samples_stand_emotion_by_emotion() -> None:
    found = report_samples.results(emotions=FEW)
    page = Page(_without_pictures(found)).text
    text = markdown("report", [each for each in sections(View(found)) if each.key == "samples"])
    first, second = (f" {each}" for each in ("thought of fear", "was full of fear"))
    assert page.count("joy by vector") == len(found.samples)
    assert re.search(rf"fear\s+by prompt\s+{first}[^.]*\.\s+by vector\s+{second}", page)
    assert re.search(rf"\| fear \|{first}[^|]*\|{second}", text)
    assert "- unsteered: and then it went home" in text


def test_missing_figures_are_dashes_and_make_no_charts() -> None:
    found = CASES["no numbers"]()
    assert charts(sections(View(found))) == []
    assert Page(_without_pictures(found)).text.count("–") > 150


def test_whole_page_is_light_and_shows_every_chart() -> None:
    page = sections(View(report_samples.results()))
    drawn = charts(page)
    names = [chart.name for chart in drawn]
    assert names == ["circumplex", "intensity", "strengths", "measures", "doses"]
    source = html("report", page)
    assert len(source) < 1_500_000
    assert len(Page(source).all("img")) == sum(len(chart.panels) for chart in drawn)


def test_both_forms_have_the_same_sections_and_captions(written: Path) -> None:
    shown = " ".join(_page(written).text.split())
    text = (written / "report.md").read_text("utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert len(headings) == 8
    captions = re.findall(r"^\*\*([\w ,:;.-]+)\*\*$", text, re.MULTILINE)
    for each in [*headings, *captions]:
        assert each in shown or each == "Emotion by emotion"


def test_figures_are_in_the_page() -> None:
    found = report_samples.results(emotions=FEW)
    text = Page(_without_pictures(found)).text
    row = View(found).full()["vector"]
    assert f"{row.cosine.mean:.2f} [{row.cosine.low:.2f}, {row.cosine.high:.2f}]" in text
    for goal in found.goals:
        assert goal.name in text
        assert goal.value in text
    assert text.count("✗") == 1
    assert text.count("✓") == 3
    assert len(re.findall(r"○\s+not measured", text)) == 1
    for key, value in (
        ("time taken", "13 min 31 s"),
        ("Machine", "AMD EPYC"),
        ("site", "attention"),
    ):
        assert key in text
        assert value in text


def test_report_leaves_what_else_is_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "generations.jsonl").write_text("kept")
    write_report(tmp_path, report_samples.nothing())
    assert (tmp_path / "generations.jsonl").read_text() == "kept"
    write_report(tmp_path / "new" / "folder", report_samples.nothing())
    assert (tmp_path / "new" / "folder" / "report.html").exists()
