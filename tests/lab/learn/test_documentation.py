"""The code of docs/training.md runs as it stands, and its vector is better than the extracted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[3] / "docs" / "training.md"


@pytest.fixture(scope="module")
def ran() -> dict[str, object]:
    """The names that its blocks of code leave behind, run one after the other."""
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOCUMENT), "exec"), names)
    return names


def test_a_learned_vector_beats_the_extracted_one_at_equal_dose(ran) -> None:
    """Told by a judge, and behind openings, that learning did not see."""
    comparison = ran["comparison"]
    extracted, learned = (comparison.measured[name] for name in ("extracted", "learned"))
    gain, low, _ = comparison.gain
    assert gain > 0.1
    assert low > 0.05
    assert learned.probability == pytest.approx(extracted.probability + gain)
    for measured in (extracted, learned):
        assert measured.divergence == pytest.approx(0.4, rel=0.02)
    assert learned.perplexity < 1.2 * extracted.perplexity
    assert learned.distinct > 0.9 * extracted.distinct


def test_training_and_evaluation_have_nothing_in_common(ran) -> None:
    assert not set(ran["training"]) & set(ran["openings"]())
    (record,) = ran["learned"].provenance["learned"]
    assert record["made_from"]["judge"] == "embedded-calibration"
    assert record["emotions"] == ["disgust"]
    assert record["started_from"] == ran["extracted"].digest()


def test_the_likelihood_of_the_lines_is_learned(ran) -> None:
    (record,) = ran["vectors"].provenance["learned"]
    assert record["made_from"] == {"method": "likelihood", "texts": 2}
    joy, before = ran["vectors"]["joy"], ran["extracted"]["joy"]
    assert not joy.equal(before)
    assert joy.norm(dim=-1).allclose(before.norm(dim=-1))


def test_answers_of_two_emotions_are_learned_together(ran) -> None:
    (record,) = ran["likelier"].provenance["learned"]
    assert record["made_from"]["texts"] == {"joy": 2, "fear": 1}
