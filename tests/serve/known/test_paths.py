"""Of what files say of themselves no path is told."""

from __future__ import annotations

import pytest

from emokernel.serve.known.paths import without_paths


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/a b/c d.json", "c d.json"),
        ("/", "…"),
        ("models/a/b", "b"),
        ("read /etc/x: gone", "read x: gone"),
        ("of the half and/or more", "of the half and/or more"),
        ("1/2 and 3/4", "1/2 and 3/4"),
        ("see http://example.org/a?b=/c", "see http://example.org/a?b=/c"),
        ("in D:/x/y.bin", "in y.bin"),
        ("\\\\share\\x\\y", "y"),
        ("~anna/x", "x"),
        ("a (/tmp/q/r.json)", "a (r.json)"),
        ("torch 2.13.0+cpu", "torch 2.13.0+cpu"),
        (3.5, 3.5),
        (None, None),
    ],
)
def test_of_a_path_its_last_part_is_left(said, told):
    assert without_paths(said) == told
