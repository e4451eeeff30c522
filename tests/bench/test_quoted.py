"""Figures of others: each names its source and its hardware."""

import json

import pytest
from peers.quoted import FILE, quoted


def test_every_figure_names_source_and_hardware():
    entries = quoted()
    assert {entry.system for entry in entries} >= {
        "EasySteer",
        "RhizoNymph/vllm",
        "hotwire-vllm",
        "emotion-steering (eigenweltlabs)",
    }
    assert [entry for entry in entries if entry.ratio and not 0.1 < entry.ratio < 1.1] == []


@pytest.mark.parametrize("field", ["hardware", "source", "unit", "version"])
def test_an_entry_without_it_is_refused(field, tmp_path):
    entries = json.loads(FILE.read_text())
    file = tmp_path / "quoted.json"
    file.write_text(json.dumps([{**entries[0], field: " "}]))
    with pytest.raises(ValueError, match="EasySteer"):
        quoted(file)
