"""A page as its parts, for tests: tags with attributes, text, and whether all is closed."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "img", "br", "hr", "link", "input"}
_SELF_CLOSED = {"line", "circle", "rect", "path"}


class Page(HTMLParser):
    """What `html.parser` finds. ValueError for a tag that is closed wrongly or not at all."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.styles = ""
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        if self._open:
            raise ValueError(f"never closed: {self._open}")

    def all(self, *names: str) -> list[dict[str, str]]:
        """The attributes of every tag of these names."""
        return [attributes for name, attributes in self.tags if name in names]

    @property
    def text(self) -> str:
        """What a reader sees, and the alternative texts."""
        return " ".join([*self.texts, *(img["alt"] for img in self.all("img"))])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SELF_CLOSED:
            raise ValueError(f"<{tag}/> closes nothing in HTML")
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            raise ValueError(f"</{tag}> closes another tag")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.styles += data
        else:
            self.texts.append(data)
