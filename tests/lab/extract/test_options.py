"""OpenChoices out of range are refused where they are made."""

from __future__ import annotations

import pytest

from emokernel import EmokernelError
from emokernel.lab.extract import Options, Sampling


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site": "mlp"}, "unknown site 'mlp'"),
        ({"tokens": "first"}, "unknown tokens 'first': choose one of mean, last, each"),
        ({"method": "lda"}, "unknown method 'lda': choose one of mean, pca, probe"),
        ({"remove_neutral": 1.0}, "remove_neutral is a share from 0 to below 1, got 1.0"),
        ({"remove_base": 1.1}, "remove_base is a share from 0 to 1, got 1.1"),
        ({"remove_base": float("nan")}, "remove_base is a share"),
        ({"heldout": -0.1}, "heldout is a share"),
        ({"batch_tokens": 0}, "batch_tokens must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"max_length": 0}, "max_length must be at least 1"),
    ],
)
def test_options_are_checked(change, message):
    with pytest.raises(EmokernelError, match=message):
        Options(**change)
    assert Options(remove_base=1.0, remove_neutral=0.5, heldout=0.0, batch_size=1)


@pytest.mark.parametrize("layers", [[], [3], [-1], [0, 7]])
def test_layers_that_do_not_exist_are_refused(layers):
    with pytest.raises(EmokernelError, match="layers must be numbers from 0 to 2"):
        Options(layers=layers).layers_of(3)


def test_layers_are_sorted_and_all_by_default():
    assert Options(layers=(2, 0, 2)).layers_of(3) == [0, 2]
    assert Options().layers_of(3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"temperature": float("nan")}, "temperature must be at least 0"),
        ({"top_p": 0.0}, "top_p above 0"),
        ({"top_p": 1.5}, "at most 1"),
    ],
)
def test_sampling_is_checked(change, message):
    with pytest.raises(EmokernelError, match=message):
        Sampling(**change)
