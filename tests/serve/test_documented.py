"""What docs/serving.md shows: its clients run at a real server, its rules name real metrics."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from public.surface import commands

for package in ("fastapi", "uvicorn", "openai", "prometheus_client"):
    pytest.importorskip(package, reason="pip install 'emokernel[serve]'")

ROOT = Path(__file__).parents[2]
SERVING = ROOT / "benchmarks" / "serving"
FILES = ROOT / "docs" / "serving"
PAGE = ROOT / "docs" / "serving.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="a source distribution has no docs/")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator:
    """The embedded model with a chat template and long texts, as a process."""
    sys.path.insert(0, str(SERVING))
    try:
        from server_process import ServerProcess, embedded_for_chats
    finally:
        sys.path.remove(str(SERVING))
        sys.modules.pop("server_process", None)
    folder = tmp_path_factory.mktemp("documented") / "embedded"
    arguments = [*embedded_for_chats(folder, endless=True), "--device", "cpu"]
    with ServerProcess(arguments, threads=1) as started:
        yield started


def run(server, *command: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EMOKERNEL_URL": server.url}
    environment["EMOKERNEL_API_KEY"] = server.key if key is None else key
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def need_curl() -> None:
    """Skip loudly without it."""
    if shutil.which("curl") is None:
        pytest.skip("NOT TESTED: curl is not installed")


def node() -> str:
    """A Node that knows fetch; skips loudly without one."""
    found = shutil.which("node")
    version = found and subprocess.run([found, "-v"], capture_output=True, text=True, check=True)
    if not version or int(version.stdout.lstrip("v").partition(".")[0]) < 18:
        pytest.skip("NOT TESTED: Node 18 or newer is not installed")
    return found


@pytest.mark.parametrize(
    "name", ["chat.py", "chat.sh", "chat.mjs", "compare.py", "emokernel.service"]
)
def test_the_page_shows_the_file(name):
    blocks = re.findall(r"^```\w*\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert (FILES / name).read_text() in blocks


def test_openai_s_client(server):
    ran = run(server, sys.executable, str(FILES / "chat.py"))
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    starts = ["None: ", "joy: ", "{'valence': -0.6, 'arousal': 0.7}: "]
    told = [next(line for line in lines if line.startswith(start)) for start in starts]
    assert all(len(line) > len(start) for line, start in zip(told, starts, strict=True))


def test_curl(server):
    need_curl()
    ran = run(server, "sh", str(FILES / "chat.sh"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert '"object":"text_completion"' in ran.stdout.replace('": "', '":"')
    assert ran.stdout.count("data: {") > 3
    assert '"joy"' in ran.stdout


def test_javascript(server):
    ran = run(server, node(), str(FILES / "chat.mjs"))
    assert ran.returncode == 0, ran.stderr
    starts = ["null: ", '"joy": ', '{"valence":-0.6,"arousal":0.7}: ']
    assert all(re.search(f"^{re.escape(start)}.", ran.stdout, re.M) for start in starts)


def test_compare_changes_in_mid_stream(server):
    ran = run(server, sys.executable, str(FILES / "compare.py"))
    assert ran.returncode == 0, ran.stderr
    plain, moved = ran.stdout.split("\n---\n")
    assert plain.strip()
    assert "[anger]" in moved
    assert "[anger]" not in plain


@pytest.mark.parametrize("name", ["chat.py", "chat.mjs", "compare.py", "chat.sh"])
def test_a_refusal_is_told(server, name):
    commands = {".py": lambda: sys.executable, ".mjs": node, ".sh": lambda: need_curl() or "sh"}
    command = commands[Path(name).suffix]()
    ran = run(server, command, str(FILES / name), key="another-key")
    assert ran.returncode != 0
    assert "no key of this server" in ran.stdout + ran.stderr


def names_of_metrics() -> set[str]:
    """All names of samples that a server gives."""
    from prometheus_client.parser import text_string_to_metric_families

    from emokernel.serve.metrics import Metrics

    metrics = Metrics()
    metrics.request("/v1/completions", 200, True)
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.name for family in families for sample in family.samples}


def test_rules_and_page_name_metrics_that_are_there():
    from emokernel.serve.metrics import REASONS

    rules = (FILES / "alerts.yml").read_text()
    named = set(re.findall(r"\b(?:emokernel|process)_[a-z_]+", rules))
    assert len(named) > 8
    assert named <= names_of_metrics()
    assert set(re.findall(r'reason="(\w+)"', rules)) <= REASONS
    table = PAGE.read_text().partition("## Metrics")[2].partition("Prometheus reads")[0]
    listed = set(re.findall(r"`(emokernel_[a-z_]+)`", table))
    there = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names_of_metrics()}
    assert listed == {
        each for each in there if each.startswith("emokernel_") and "_created" not in each
    }
    reasons = table.partition("\n| `emokernel_refused_total`")[2].partition("\n")[0]
    assert set(re.findall(r"`(\w+)`", reasons)) == {"reason", "other", *REASONS}


def test_options_of_the_page_are_options_of_the_command():
    own = {word for option in commands()["serve"] for word in option.split()}
    table = PAGE.read_text().partition("## Options")[2].partition("## Endpoints")[0]
    named = {name for name in re.findall(r"`(--[a-z-]+)", table) if not name.startswith("--cb-")}
    passed_on = {"--host", "--port", "--device", "--dtype", "--no-continuous-batching"}
    assert named - passed_on == {name for name in own if name.startswith("--")} - {"--help"}


def test_the_image_is_run_by_nobody_and_ends_by_its_signal():
    """Exec forms, so that SIGTERM reaches the server; a user without a name on the host."""
    text = (FILES / "Dockerfile").read_text().replace("\\\n", " ")
    stage = text.rpartition("\nFROM ")[2]
    words = dict(re.findall(r"^([A-Z]+) (.+)$", stage, re.M))
    assert re.fullmatch(r"[1-9]\d{4,}:[1-9]\d{4,}", words["USER"])
    assert words["ENTRYPOINT"].startswith('["emokernel", "serve", "--host", "0.0.0.0"')
    assert words["CMD"].startswith("[")
    assert words["STOPSIGNAL"] == "SIGTERM"
    assert "/ready" in words["HEALTHCHECK"]
    assert not re.search(r"^(ENV|ARG).*KEY", text, re.M)  # whoever has the image would have it
    copied = {line[1:] for line in (FILES / "Dockerfile.dockerignore").read_text().splitlines()
              if line.startswith("!")}  # fmt: skip
    assert all((ROOT / path).exists() for path in copied)
