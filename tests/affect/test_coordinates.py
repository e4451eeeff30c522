"""Tables of label coordinates: the built-in ones, files, immutability."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import FrozenInstanceError

import hypothesis.strategies as st
import pytest
from hypothesis import given

from emokernel import Affect, EmokernelError
from emokernel.affect import TABLES, Coordinates
from emokernel.errors import UnknownEmotionError

GO_EMOTIONS = set(
    "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment"
    " disapproval disgust embarrassment excitement fear gratitude grief joy love nervousness"
    " optimism pride realization relief remorse sadness surprise neutral".split()
)
LABELS = st.text(min_size=1).filter(str.strip)
POINTS = st.builds(
    lambda angle, radius: (radius * math.cos(angle), radius * math.sin(angle)),
    st.floats(0, math.tau),
    st.floats(0, 1),
)


@pytest.fixture
def load(tmp_path):
    def load(content: object) -> Coordinates:
        path = tmp_path / "table.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return Coordinates.load(path)

    return load


@pytest.mark.parametrize("name", TABLES)
def test_built_in_tables_name_their_source_and_disclaim_the_paper(name):
    table = Coordinates.named(name)
    assert table.name == name
    assert table.source
    assert any("2504.14706" in note for note in table.notes)
    assert all(point.radius <= 1.0 + 1e-12 for point in table.points.values())


@pytest.mark.parametrize(
    ("label", "angle"),
    [
        ("joy", 7.8), ("love", 24.9), ("excitement", 48.6), ("surprise", 69.8), ("anger", 99.0),
        ("fear", 116.0), ("disgust", 180.0), ("sadness", 207.5), ("remorse", 211.0),
        ("relief", 318.0), ("caring", 323.0), ("gratitude", 353.2), ("sleepy", 271.9),
        ("boredom", 242.0), ("tiredness", 267.7),
    ],
)  # fmt: skip
def test_angles_of_russell(label, angle):
    table = Coordinates.named("russell")
    assert table.angle(label) == pytest.approx(angle)
    assert table[label].radius == pytest.approx(1.0)


def test_russell_says_how_well_each_angle_is_attested():
    table = Coordinates.named("russell")
    assert {of["attested"] for of in table.facts.values()} == {"anchor", "measured", "quoted"}
    assert table.facts["anger"] == {"term": "angry", "attested": "quoted"}
    assert table.facts["joy"] == {"term": "happy", "attested": "measured"}
    assert GO_EMOTIONS - set(table) == {"confusion", "neutral", "realization"}
    labels = {label: fact["term"] for label, fact in table.facts.items() if "term" in fact}
    assert all(table[label] == table[term] for label, term in labels.items())


def test_glasgow_has_the_rated_labels_only():
    table = Coordinates.named("glasgow")
    assert GO_EMOTIONS - set(table) == {"disapproval", "relief"}
    assert set(table) <= GO_EMOTIONS


def test_glasgow_coordinates_are_z_scores_by_one_factor():
    """With mean and standard deviation of all words; love, the farthest, lies on the circle."""
    table = Coordinates.named("glasgow")
    scores = {
        label: [(r - m) / sd for r, m, sd in zip(
            fact["ratings"], (5.095874, 4.62718), (1.545649, 1.095792), strict=True
        )]
        for label, fact in table.facts.items()
    }  # fmt: skip
    assert list(table) == list(scores)
    factor = max(math.hypot(*score) for score in scores.values())
    for label, (valence, arousal) in scores.items():
        assert table[label].valence == pytest.approx(valence / factor, abs=1e-12)
        assert table[label].arousal == pytest.approx(arousal / factor, abs=1e-12)
    assert table["love"].radius == pytest.approx(1.0)
    assert table.angle("anger") == pytest.approx(151.0, abs=0.05)
    assert table.facts["caring"]["word"] == "care"


def test_an_unknown_built_in_table_is_an_error_that_names_the_known_ones():
    with pytest.raises(EmokernelError, match=r"'rusell': choose one of russell, glasgow"):
        Coordinates.named("rusell")


@given(st.dictionaries(LABELS, POINTS, min_size=1))
def test_a_file_gives_back_what_was_written(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("tables") / "own.json"
    path.write_text(json.dumps({"labels": {k: list(v) for k, v in table.items()}}), "utf-8")
    read = Coordinates.load(path)
    assert list(read) == list(table)
    assert {name: (read[name].valence, read[name].arousal) for name in read} == table
    assert (read.name, read.source) == ("own", str(path))


def test_both_forms_of_files(load):
    plain = load({"calm": [0.5, -0.5], "tense": {"angle": 90}})
    assert plain["calm"] == Affect(0.5, -0.5)
    assert plain.angle("tense") == pytest.approx(90)
    whole = load({"name": "mine", "source": "a study", "notes": ["n"], "labels": {
        "calm": {"point": [0.5, -0.5], "raters": 12}, "still": {"angle": -90}}})  # fmt: skip
    assert (whole.name, whole.source, whole.notes) == ("mine", "a study", ("n",))
    assert whole.facts["calm"] == {"raters": 12}
    assert whole.angle("still") == pytest.approx(270)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "at least one label"),
        ([], "no JSON object"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"a": [' + "9" * 5000 + ", 0]}", "digits|finite"),
        ('{"a": [' + "9" * 400 + ", 0]}", "'a' needs finite numbers"),
        ('{"joy": [0, 1], "joy": [1, 0]}', "'joy' is given twice"),
        ('{"joy": [NaN, 0]}', "'joy' needs finite numbers"),
        ('{"joy": {"angle": Infinity}}', "'joy' needs finite numbers"),
        ({"joy": [0.9, 0.9]}, "'joy' at .* outside the unit circle"),
        ({"joy": [0.9]}, "'joy' needs finite numbers"),
        ({"joy": "up"}, "'joy' needs finite numbers"),
        ({"joy": None}, "'joy' needs finite numbers"),
        ({"joy": [True, 0]}, "'joy' needs finite numbers"),
        ({"joy": {"angel": 30}}, "'joy' needs finite numbers"),
        ({"joy": {"angle": "30"}}, "'joy' needs finite numbers"),
        ({" ": [0, 1]}, "text that is not empty"),
        ({"name": 3, "labels": {"joy": [0, 1]}}, "name and source must be texts"),
        ({"notes": "n", "labels": {"joy": [0, 1]}}, "notes a list of texts"),
        ({"happy": {"angle": 8}, "joy": {"term": "happy"}}, "no point: .* of a term copy"),
        ({"joy": {"ratings": [9, 4]}}, "'joy' has no point: of ratings compute"),
    ],
)
def test_a_bad_file_is_refused_with_its_path_and_the_fault(load, content, message):
    with pytest.raises(EmokernelError, match=rf"(?s)table\.json.*{message}"):
        load(content)


def test_a_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "table.json"
    path.write_bytes('{"fröhlich": [1, 0]}'.encode("latin-1"))
    with pytest.raises(EmokernelError, match="no JSON in UTF-8"):
        Coordinates.load(path)


def test_a_missing_file_is_no_error_of_its_own(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file of label coordinates"):
        Coordinates.load(tmp_path / "none.json")


def test_a_table_cannot_be_changed():
    given_points = {"joy": (1.0, 0.0)}
    table = Coordinates(given_points)
    given_points["joy"] = (0.0, 1.0)
    assert table["joy"] == Affect(1.0, 0.0)
    with pytest.raises(TypeError, match="item assignment"):
        table.points["joy"] = Affect(0.0, 0.0)
    with pytest.raises(FrozenInstanceError, match="name"):
        table.name = "other"
    with pytest.raises(TypeError, match="item assignment"):
        Coordinates.named("russell").facts["joy"]["term"] = "glad"


@pytest.mark.parametrize("name", TABLES)
def test_copies_are_equal(name):
    table = Coordinates.named(name)
    for other in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert other == table
        assert other.facts == table.facts


def test_looking_labels_up():
    table = Coordinates({"joy": (0.5, 0.5), "neutral": (0.0, 0.0)})
    assert list(table) == ["joy", "neutral"]
    assert "joy" in table
    assert table.get("fear") is None
    assert table.angle("fear") is None
    assert table.angle("neutral") is None
    with pytest.raises(UnknownEmotionError, match="Did you mean 'joy'"):
        table["joi"]
