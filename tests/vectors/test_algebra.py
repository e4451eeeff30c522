"""The algebra of emotion vectors: what each operation must leave true."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from emokernel import EmokernelError, EmotionVectors
from emokernel.vectors.calibration import Calibration

NAMES = ("joy", "anger", "fear")


def random_vectors(seed: int, layers: int = 3, width: int = 7, names=NAMES) -> EmotionVectors:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(layers, len(names), width, generator=generator)
    tensor[layers - 1] = 0
    provenance = {"data": "noise", "history": ["made up"]}
    return EmotionVectors(tuple(names), tensor, "block", provenance)


def calibrated(vectors: EmotionVectors) -> EmotionVectors:
    calibration = Calibration(
        vectors.site, (1.0,) * vectors.num_layers, "preserve", "absolute", "axes", "russell",
        {"preserve absolute": {"joy": 2.0, "anger": 3.0, "fear": 4.0}},
        {"preserve absolute": tuple(range(12))},
    )  # fmt: skip
    return EmotionVectors(
        vectors.names, vectors.tensor, vectors.site, vectors.provenance, {"base_share": [1]},
        calibration,
    )  # fmt: skip


@pytest.fixture(params=[0, 1, 2])
def vectors(request) -> EmotionVectors:
    return random_vectors(request.param)


def test_vectors_keep_a_tensor_of_their_own(vectors):
    tensor = vectors.tensor.clone()
    own = EmotionVectors(NAMES, tensor, "block")
    tensor.zero_()
    assert torch.equal(own.tensor, vectors.tensor)


OPERATIONS = {
    "select": lambda v: v.select(["fear", "joy"]),
    "renamed": lambda v: v.renamed({"joy": "happiness"}),
    "merged": lambda v: v.merged(v.renamed({name: name * 2 for name in NAMES})),
    "scaled": lambda v: v.scaled(2.0),
    "mixed": lambda v: v.mixed({"dread": {"fear": 1.0, "joy": -0.5}}),
    "residual": lambda v: v.residual(),
    "without": lambda v: v.without(v.base()),
    "orthogonalised": lambda v: v.orthogonalised(),
    "with_profile": lambda v: v.with_profile([1.0, 0.5, 0.0]),
    "at_layers": lambda v: v.at_layers([0]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_leaves_its_vectors_alone(name, vectors):
    given_to = calibrated(vectors)
    before, history = given_to.tensor.clone(), list(given_to.provenance["history"])
    result = OPERATIONS[name](given_to)
    assert torch.equal(given_to.tensor, before)
    assert given_to.provenance["history"] == history
    assert given_to.calibration is not None
    assert (result.num_layers, result.hidden_size, result.site) == (3, 7, "block")
    if name not in ("select", "renamed"):
        assert (result.calibration, result.diagnostics) == (None, {})
        assert result.provenance["history"][:1] == ["made up"]
        assert len(result.provenance["history"]) == 2


def test_selected_and_renamed_emotions_keep_their_strengths(vectors):
    chosen = calibrated(vectors).select(["fear", "joy"])
    assert torch.equal(chosen["fear"], vectors["fear"])
    assert dict(chosen.calibration.strengths["preserve absolute"]) == {"fear": 4.0, "joy": 2.0}
    # The wheel of other emotions has other neighbours, so the factors do not hold for it.
    assert not chosen.calibration.circle
    renamed = calibrated(vectors).renamed({"joy": "happiness"})
    assert renamed.names == ("happiness", "anger", "fear")
    assert renamed.calibration.strengths["preserve absolute"]["happiness"] == 2.0
    assert chosen.calibration.mapping == "wheel"
    swapped = calibrated(vectors).renamed({"joy": "anger", "anger": "joy"})
    assert not swapped.calibration.circle
    same = calibrated(vectors).select(["fear", "joy", "anger"])
    assert same.calibration.circle["preserve absolute"] == tuple(range(12))


def test_scaling_by_name_leaves_the_others(vectors):
    scaled = vectors.scaled({"anger": -2.0})
    assert torch.equal(scaled["anger"], -2 * vectors["anger"])
    assert torch.equal(scaled["joy"], vectors["joy"])


def test_a_mix_is_the_weighted_sum(vectors):
    mixed = vectors.mixed({"dread": {"fear": 0.75, "joy": -0.5}})
    assert mixed.names == (*NAMES, "dread")
    torch.testing.assert_close(mixed["dread"], 0.75 * vectors["fear"] - 0.5 * vectors["joy"])


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_base_and_residual_add_up(seed, share):
    vectors = random_vectors(seed)
    rest = vectors.residual(share)
    torch.testing.assert_close(rest.tensor + share * vectors.base()[:, None], vectors.tensor)
    torch.testing.assert_close(rest.base(), (1 - share) * vectors.base(), rtol=1e-4, atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_the_part_without_a_span_is_orthogonal_and_the_rest_lies_within(seed, count):
    vectors = random_vectors(seed)
    directions = random_vectors(seed + 1, names=[f"d{n}" for n in range(count)]).tensor.double()
    outside = vectors.without(directions)
    dots = outside.tensor.double() @ directions.transpose(1, 2)
    assert dots.abs().max() < 1e-5
    inside = (vectors.tensor - outside.tensor).double()[:2]  # layers that have directions
    shares = torch.linalg.lstsq(directions[:2].transpose(1, 2), inside.transpose(1, 2)).solution
    within = (directions[:2].transpose(1, 2) @ shares).transpose(1, 2)
    torch.testing.assert_close(within, inside, rtol=1e-5, atol=1e-5)


def test_what_is_only_rounding_is_zero(vectors):
    rest = vectors.without(vectors["joy"])
    assert not rest["joy"].any()
    assert rest["fear"].any()
    mixed = vectors.mixed({"other": {"fear": 1.0}}).without(vectors["fear"])
    assert not mixed["other"].any()
    assert not vectors.select(["joy"]).without(vectors["joy"]).layers


def test_dependent_directions_count_once(vectors):
    base = vectors.base()
    torch.testing.assert_close(
        vectors.without(torch.stack([base, 2 * base], dim=1)).tensor, vectors.without(base).tensor
    )


def unit(rows):
    return rows / rows.norm(dim=-1, keepdim=True)


@given(st.integers(0, 10_000))
def test_orthogonal_vectors_keep_their_norms(seed):
    vectors = random_vectors(seed)
    result = vectors.orthogonalised()
    rows = unit(result.tensor[:2])
    assert (rows @ rows.transpose(1, 2) - torch.eye(3)).abs().max() < 1e-5
    torch.testing.assert_close(result.tensor.norm(dim=-1), vectors.tensor.norm(dim=-1))


def test_orthogonalisation_is_the_nearest_and_treats_all_alike(vectors):
    result = vectors.orthogonalised()
    swapped = vectors.select(["fear", "joy", "anger"]).orthogonalised()
    torch.testing.assert_close(swapped.select(NAMES).tensor, result.tensor)

    def distance(rows):
        return (unit(rows) - unit(vectors.tensor[0])).square().sum()

    nearest = distance(result.tensor[0])
    for seed in range(50):
        assert nearest <= distance(random_vectors(seed + 100).orthogonalised().tensor[0]) + 1e-6


def test_vectors_that_depend_on_each_other_cannot_be_orthogonalised(vectors):
    with pytest.raises(EmokernelError, match="layer 0: the emotions depend on each other"):
        vectors.mixed({"dread": {"fear": 1.0, "joy": 1.0}}).orthogonalised()


def test_a_profile_multiplies_layers(vectors):
    result = vectors.with_profile([0.0, 0.5, 2.0])
    assert result.layers == (1,)
    assert torch.equal(result.tensor[1], 0.5 * vectors.tensor[1])
    assert torch.equal(vectors.at_layers([0]).tensor[0], vectors.tensor[0])
    assert vectors.at_layers([0]).layers == (0,)
    with pytest.raises(EmokernelError, match="needs 3 numbers"):
        vectors.with_profile([1.0])
    with pytest.raises(EmokernelError, match=r"no such layers: \[3\]"):
        vectors.at_layers([0, 3])


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda v: v.scaled({"jou": 1.0}), "Did you mean 'joy'"),
        (lambda v: v.scaled({"joy": "2"}), "the factor of 'joy' must be a number"),
        (lambda v: v.mixed({"dread": {"feat": 1.0}}), "Did you mean 'fear'"),
        (lambda v: v.mixed({"joy": {"fear": 1.0}}), "distinct"),
        (lambda v: v.renamed({"jou": "x"}), "Did you mean 'joy'"),
        (lambda v: v.renamed({"joy": "fear"}), "distinct"),
        (lambda v: v.merged(v), "distinct"),
        (lambda v: v.merged(random_vectors(0, width=6)), "cannot merge vectors of 3 layers x 6"),
        (lambda v: v.without(torch.ones(3, 6)), r"need the shape \[3, k, 7\]"),
        (lambda v: v.scaled(float("nan")), "finite"),
    ],
)
def test_what_makes_no_sense_is_refused(operation, message, vectors):
    with pytest.raises(EmokernelError, match=message):
        operation(vectors)


def lone(layers=(0, 1)) -> EmotionVectors:
    """Joy and anger; joy has vectors in ``layers`` only."""
    tensors = {name: torch.eye(3, 4) + number for number, name in enumerate(("joy", "anger"))}
    tensors["joy"][[layer for layer in range(3) if layer not in layers]] = 0
    return EmotionVectors.from_tensors(tensors)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda of: of.select(["anger"]).residual(), "'anger'"),
        (lambda of: of.at_layers([2]), "'joy'"),
        (lambda of: of.at_layers([]), "'joy', 'anger'"),
        (lambda of: of.with_profile([0, 0, 1]), "'joy'"),
        (lambda of: of.mixed({"same": {"anger": 1.0}}).mixed({"no": {"anger": 0.3, "same": -0.3}}),
         "'no'"),
        (lambda of: of.select(["anger"]).mixed({"same": {"anger": 1.0}}).residual(),
         "'anger', 'same'"),
    ],
)  # fmt: skip
def test_an_operation_that_leaves_nothing_of_an_emotion_is_an_error(change, names):
    with pytest.raises(EmokernelError, match=f"the vectors of {names} are zero in every layer"):
        change(lone())


def test_zero_may_be_asked_for():
    assert not lone().scaled({"joy": 0})["joy"].any()
    assert not lone().scaled(0.0).layers
    assert not lone().mixed({"nothing": {"joy": 0.0}})["nothing"].any()
    silent = lone(layers=())
    assert not silent.scaled(2.0).at_layers([1])["joy"].any()


def test_a_projection_warns_of_an_emotion_that_it_leaves_nothing_of():
    vectors = lone()
    with pytest.warns(UserWarning, match="nothing is left of 'joy'"):
        vectors.without(vectors["joy"])
    with pytest.warns(UserWarning, match="nothing is left of 'joy', 'anger'"):
        vectors.without(vectors.tensor)
