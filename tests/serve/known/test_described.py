"""What is told of the emotions of a model: enough to draw them, and no path."""

from __future__ import annotations

import pytest
import torch
from serve.emotions.served import Served
from serve.front.calls import ask

from emokernel import EmotionVectors, patch
from emokernel.affect import Coordinates
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors

PATH = "/v1/emotions"


@pytest.fixture(scope="module")
def fresh():
    """``fresh(vectors, **options)``: the answer of a server with these."""
    model, tokenizer = load_model()

    def make(vectors, **options):
        steering = patch(model, vectors, **options)
        try:
            answer = ask(Served(model, tokenizer, steering).app, PATH, method="GET")
        finally:
            steering.unpatch()
        assert answer.status == 200
        return answer.json

    return make


def test_emotions_have_their_places_and_strengths(served):
    answer = ask(served.app, PATH, method="GET").json
    vectors, table = load_vectors(), Coordinates.named("russell")
    assert answer["object"] == "list"
    assert answer["model"] == "embedded"
    assert [each["id"] for each in answer["data"]] == list(vectors.names)
    strengths = vectors.calibration.strengths["preserve absolute"]
    for each in answer["data"]:
        point = table[each["id"]]
        assert each["object"] == "emotion"
        assert each["valence"] == pytest.approx(point.valence, abs=1e-5)
        assert each["arousal"] == pytest.approx(point.arousal, abs=1e-5)
        assert (each["steered"], each["why_not"]) == (True, None)
        assert each["weight"] == pytest.approx(strengths[each["id"]])


def test_it_is_told_what_strength_1_is_and_what_holds_unless_asked(served):
    answer = ask(served.app, PATH, method="GET").json
    calibration, record = answer["calibration"], load_vectors().calibration.record
    assert (calibration["law"], calibration["dose"]) == ("preserve", "absolute")
    assert "calibrated" in calibration["strength"]
    assert "add relative" in calibration["calibrated_for"]
    assert calibration["record"]["judge"] == record["judge"]
    assert calibration["record"]["at_strength_1"] == record["at_strength_1"]["preserve absolute"]
    assert answer["defaults"] == {"law": "preserve", "dose": "absolute", "positions": "all"}
    assert (answer["site"], answer["layers"]) == ("attention", list(range(6)))
    assert answer["circumplex"]["mapping"] == "wheel"
    assert answer["circumplex"]["coordinates"] == "russell"
    assert "Russell" in answer["circumplex"]["source"]
    assert answer["provenance"]["model"] == "the embedded model of emokernel.demo"


def test_vectors_that_say_nothing_of_themselves(fresh):
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(6, 192, generator=generator) for name in ("joy", "zeal", "dull")}
    tensors["dull"][:3] = 0
    answer = fresh(EmotionVectors.from_tensors(tensors, site="attention"), layers=[1, 2])
    assert answer["calibration"] is None
    assert answer["layers"] == [1, 2]
    assert answer["provenance"] == {}
    joy, zeal, dull = answer["data"]
    assert joy["valence"] > 0.9
    assert (joy["weight"], joy["steered"]) == (1.0, True)
    assert (zeal["valence"], zeal["arousal"], zeal["steered"]) == (None, None, True)
    assert not dull["steered"]
    assert "zero in every steered layer" in dull["why_not"]


def test_no_path_of_a_file_is_told(fresh):
    provenance = {
        "model": "/home/anna/models/llama-7b",
        "data": {"name": "C:\\Users\\anna\\texts.csv", "../up/x.json": 3},
        "files": ["~/vectors/joy.json", "./here/fear.json", "file:///srv/a.npz"],
        "history": ["merged /srv/secret/one.gguf and '/srv/secret/two.gguf'."],
        "source": "https://example.org/a/b/c.json", "repository": "owner/name",
    }  # fmt: skip
    vectors = EmotionVectors.from_tensors(
        {"joy": torch.ones(6, 192)}, site="attention", provenance=provenance
    )
    told = fresh(vectors)["provenance"]
    assert told == {
        "model": "llama-7b",
        "data": {"name": "texts.csv", "x.json": 3},
        "files": ["joy.json", "fear.json", "a.npz"],
        "history": ["merged one.gguf and 'two.gguf'."],
        "source": "https://example.org/a/b/c.json", "repository": "owner/name",
    }  # fmt: skip


def test_the_answers_are_described(served):
    described = ask(served.app, "/openapi.json", method="GET").json
    for path, method in ((PATH, "get"), (f"{PATH}/read", "post"),
                         (f"{PATH}/streams/{{token}}", "post")):  # fmt: skip
        content = described["paths"][path][method]["responses"]["200"]["content"]
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert described["components"]["schemas"][name]["properties"]
