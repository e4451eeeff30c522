"""Pictures of the page, and a recording of a mood that is moved in mid-stream: `make pictures`.

    python tests/browser/pictures.py FOLDER

starts `emokernel serve smollm2` and looks at it in Chromium. ffmpeg has to be on PATH.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from browser.chromium import launched, missing
from browser.hands import (
    button,
    field,
    message,
    on_screen,
    opened,
    place,
    point,
    send,
    settings,
    states,
    view,
)
from browser.waiting import waited
from browser.watched import Watched
from playwright.sync_api import sync_playwright
from serving.server_process import ServerProcess

WIDTHS, SCHEMES = {390: 844, 820: 1180, 1280: 860}, ("light", "dark")
QUESTION = "How was the party last night?"
SEED, LONGEST, LONGEST_FILMED = 3, 90, 70
_PATIENCE_S = 180.0
# Of the recording.
FILM = {"width": 1120, "height": 700}
FRAMES, COLOURS, LARGEST = 10, 256, 3_000_000
SLOW_MS = 250  # between two places of the point as it is led

START, STRENGTH = (0.75, 0.55), 1.5
# Where the point is led while the text is written, in one go.
WAY = ((0.3, 0.88), (-0.25, 0.88), (-0.65, 0.68))


def prepared(page: Any, longest: int) -> None:
    """The same seed and length for all pictures, with the settings folded again."""
    settings(page)
    for name, value in (("Seed", SEED), ("Longest answer", longest)):
        field(page, name).fill(str(value))
        field(page, name).press("Tab")
    page.locator("#settings > summary").click()


def read(page: Any, marks: int) -> None:
    """Wait until the judge has read: at least so many marks."""
    waited(lambda: page.locator(".mark").count() >= marks, "the judge", _PATIENCE_S)
    page.wait_for_timeout(1500)  # the last ones, and whatever fades


def talk(page: Any) -> None:
    """A finished talk, whose mood was moved in mid-stream."""
    place(page, *START)
    send(page, QUESTION)
    waited(lambda: page.locator('[data-side="steered"] .text').last.text_content(), "a word", 60)
    waited(lambda: _words(page) > 25, "some words", _PATIENCE_S)
    place(page, -0.7, 0.35)
    states(page, "ended", within=_PATIENCE_S)
    read(page, 4)


def twelve(page: Any) -> None:
    """The twelve, all read."""
    view(page, "Twelve moods")
    message(page).fill(QUESTION)
    button(page, "Send").click()
    read(page, 12)


def _words(page: Any) -> int:
    return len(page.locator('.answer[data-side="steered"] .text').last.text_content().split())


def pictures(browser: Any, url: str, folder: Path) -> None:
    """Each view at each width in each scheme."""
    for scheme in SCHEMES:
        for width, height in WIDTHS.items():
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme,
                device_scale_factor=2,
            )  # fmt: skip
            watched = Watched(context, url)
            page = opened(watched, url)
            page.screenshot(path=folder / f"empty-{width}-{scheme}.png")
            prepared(page, LONGEST)
            for name, show in (("talk", talk), ("twelve", twelve)):
                show(page)
                page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
                page.screenshot(path=folder / f"{name}-{width}-{scheme}.png")
                # In a window as high as the page what sticks to its end is at the end.
                whole = page.evaluate("document.documentElement.scrollHeight")
                page.set_viewport_size({"width": width, "height": whole})
                page.wait_for_timeout(300)
                page.screenshot(path=folder / f"{name}-{width}-{scheme}-whole.png")
                page.set_viewport_size({"width": width, "height": height})
            assert not watched.found(), watched.found()
            context.close()


class Film:
    """Frames of a page as they come, by Chromium's screencast, with the time of each."""

    def __init__(self, page: Any, folder: Path) -> None:
        self._folder, self.frames, self._ended = folder, [], False
        self._session = page.context.new_cdp_session(page)
        self._session.on("Page.screencastFrame", self._keep)
        self._session.send("Page.startScreencast", {"format": "png"})

    def _keep(self, frame: dict[str, Any]) -> None:
        if self._ended:
            return
        path = self._folder / f"{len(self.frames):05}.png"
        path.write_bytes(base64.b64decode(frame["data"]))
        self.frames.append((path, frame["metadata"]["timestamp"]))
        self._session.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return self.frames[-1][1] - self.frames[0][1]

    def end(self) -> None:
        """No more of them."""
        self._ended = True
        self._session.send("Page.stopScreencast")

    def list_for_ffmpeg(self) -> Path:
        """The frames with how long each is seen, as ffmpeg's concat reads them."""
        times = [at for _, at in self.frames]
        lasting = [after - at for at, after in itertools.pairwise(times)] + [2.0]
        lines = [
            f"file '{path}'\nduration {seconds:.3f}"
            for (path, _), seconds in zip(self.frames, lasting, strict=True)
        ]
        listed = self._folder / "frames.txt"
        listed.write_text("\n".join([*lines, f"file '{self.frames[-1][0]}'"]) + "\n")
        return listed


def recording(browser: Any, url: str, folder: Path) -> tuple[Path, float]:
    """A question, its answers, and the point that is led meanwhile; the file and its seconds."""
    context = browser.new_context(viewport=FILM, color_scheme="light")
    watched = Watched(context, url)
    page = opened(watched, url, f"#mood={START[0]},{START[1]}&strength={STRENGTH}")
    prepared(page, LONGEST_FILMED)
    page.evaluate("scrollTo(0, 0)")
    with tempfile.TemporaryDirectory() as kept:
        film = Film(page, Path(kept))
        page.wait_for_timeout(800)
        message(page).press_sequentially(QUESTION, delay=45)
        page.wait_for_timeout(300)
        message(page).press("Enter")
        waited(lambda: _words(page) > 12, "some words", _PATIENCE_S)
        lead(page)
        states(page, "ended", within=_PATIENCE_S)
        page.wait_for_timeout(2500)
        page.screenshot(path=folder / "disc.png")
        film.end()
        found = _encoded(film.list_for_ffmpeg(), folder / "disc.gif")
    assert not watched.found(), watched.found()
    context.close()
    return found, film.seconds


def lead(page: Any) -> None:
    """Take the point, lead it along the way, slowly enough to be seen, and let it go."""
    page.mouse.move(*on_screen(page, *START))
    page.mouse.down()
    for place_on_way in WAY:
        page.mouse.move(*on_screen(page, *place_on_way), steps=10)
        page.wait_for_timeout(SLOW_MS)
    page.mouse.up()


def _encoded(frames: Path, target: Path) -> Path:
    """A GIF of them, a coarser one if it is larger than it may be."""
    for width, rate, colours in ((FILM["width"], FRAMES, COLOURS), (900, 6, 128), (720, 5, 64)):
        chain = (
            f"fps={rate},scale={width}:-1:flags=lanczos,split[a][b];"
            f"[a]palettegen=max_colors={colours}:stats_mode=diff[p];"
            "[b][p]paletteuse=dither=bayer:bayer_scale=4:diff_mode=rectangle"
        )
        subprocess.run(
            ["ffmpeg", "-y", "-loglevel", "error", "-f", "concat", "-safe", "0", "-i", str(frames),
             "-vf", chain, str(target)],
            check=True,
        )  # fmt: skip
        if target.stat().st_size < LARGEST:
            return target
    raise SystemExit(f"{target} has {target.stat().st_size} bytes: film less")


def main() -> None:
    """Start the server, and look at it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for PNG files; disc.gif and its last picture")
    parser.add_argument("--model", default="smollm2", help="what is served; smollm2 unless given")
    parser.add_argument(
        "--only", choices=["pictures", "recording"], help="one of the two; both unless given"
    )
    chosen = parser.parse_args()
    reason = missing() or ("ffmpeg is not on PATH" if shutil.which("ffmpeg") is None else None)
    if reason:
        raise SystemExit(reason)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with ServerProcess([chosen.model], key=None) as server, sync_playwright() as playwright:
        browser = launched(playwright)
        warm(browser, server.url)
        if chosen.only != "pictures":
            found, seconds = recording(browser, server.url, chosen.folder)
            print(f"{found}: {found.stat().st_size} bytes, {seconds:.0f} s long")
        if chosen.only != "recording":
            pictures(browser, server.url, chosen.folder)
        browser.close()


def warm(browser: Any, url: str) -> None:
    """One answer that nobody sees: the first is slow, and fetches the judge."""
    watched = Watched(browser.new_context(), url)
    page = opened(watched, url)
    settings(page)
    field(page, "Longest answer").fill("20")
    field(page, "Longest answer").press("Tab")
    send(page, QUESTION)
    states(page, "ended", within=_PATIENCE_S)
    read(page, 1)
    point(page).press("Home")
    watched.context.close()


if __name__ == "__main__":
    main()
