"""The picture of where the emotions of a model lie."""

from __future__ import annotations

from affect.planted import planted

from emokernel.affect import Coordinates
from emokernel.atomic import save_figure
from emokernel.lab.evaluate.positions import agreement, positions_of
from emokernel.lab.report import positions_plot


def test_the_plot_shows_every_emotion_and_the_agreement(tmp_path, monkeypatch):
    table = Coordinates.named("glasgow")
    names = (*table, "relief")
    figures = []

    def saved(figure, path):
        figures.append(figure)
        save_figure(figure, path)

    monkeypatch.setattr(positions_plot, "save_figure", saved)
    vectors, _ = planted(table, names, noise=0.1)
    positions_plot.plot_positions(tmp_path / "positions.png", vectors, table)
    assert (tmp_path / "positions.png").stat().st_size > 10_000
    (axes,) = figures[0].axes
    found = agreement(positions_of(vectors, table), table)
    assert f"mean cosine {found.cosine:.2f}" in axes.get_title()
    assert [text.get_text() for text in axes.texts] == list(names)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    assert "model, not in the table" in [t.get_text() for t in axes.get_legend().get_texts()]
