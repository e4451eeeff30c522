"""Vectors that are learned: what the adds read, whose gradient it is, what comes of it."""

from __future__ import annotations

import copy

import pytest
import torch
from lab.learn.hooks import assert_equal_gradients, gradients
from torch import Tensor

from emokernel import Affect, EmotionVectors, patch
from emokernel.errors import SteeringError, UnknownEmotionError
from emokernel.lab.learn import learn_vectors


def loss_of(model, ids: Tensor) -> Tensor:
    return model(ids, labels=ids).loss


def changed(vectors: EmotionVectors, name: str, tensor: Tensor) -> EmotionVectors:
    return EmotionVectors.from_tensors(
        {each: tensor if each == name else vectors[each] for each in vectors.names},
        site=vectors.site,
    )


@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("law", ["add", "preserve"])
@pytest.mark.parametrize("dose", ["absolute", "relative"])
def test_the_gradient_is_that_of_finite_differences(dose, law, site, tiny, vectors, prompts):
    model = tiny()
    own = vectors(site)
    steering = patch(model, own, law=law, dose=dose)
    steering.set({"joy": 0.7, "anger": 0.2})
    with steering.learning("joy") as learned:
        loss_of(model, prompts).backward()
        found = (learned.parameter.grad * learned.parameter).sum((1, 2))
        step = 2e-2
        for layer in range(3):
            sides = []
            for sign in (1, -1):
                with torch.no_grad():
                    learned.parameter[layer] *= 1 + sign * step
                    sides.append(loss_of(model, prompts).item())
                    learned.parameter[layer] /= 1 + sign * step
            slope = (sides[0] - sides[1]) / (2 * step)
            assert found[layer].item() == pytest.approx(slope, rel=0.05, abs=2e-4)
    assert found.abs().max() > 2e-3


def test_calls_without_gradients_steer_with_what_is_learned(tiny, vectors, prompts):
    model, own = tiny(), vectors()
    steering = patch(model, own)
    requests = ["joy", None, "anger", {"joy": 1.0, "anger": -0.5}]
    with steering.learning(["joy"]) as learned:
        with torch.no_grad():
            learned.parameter.mul_(2.0).add_(0.3)
        with steering.requests(requests):
            with torch.no_grad():
                found = model(prompts).logits
            with torch.inference_mode():
                assert torch.equal(model(prompts).logits, found)
            torch.testing.assert_close(model(prompts).logits, found)
            generated = model.generate(prompts, max_new_tokens=5, do_sample=False)
        result = learned.vectors()
    with torch.no_grad(), steering.requests(requests):
        assert not torch.allclose(model(prompts).logits, found), "its own vectors again"
    steering.unpatch()
    assert torch.equal(result["anger"], own["anger"])
    steering = patch(model, result)
    with torch.no_grad(), steering.requests(requests):
        torch.testing.assert_close(model(prompts).logits, found)
        assert torch.equal(model.generate(prompts, max_new_tokens=5, do_sample=False), generated)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_vectors_in_fp32_are_learned_in_a_model_in_half_precision(dtype, tiny, vectors, prompts):
    model = tiny(dtype=dtype)
    wide = tiny().requires_grad_(False)
    for one, other in zip(wide.parameters(), model.parameters(), strict=True):
        one.copy_(other.detach().float())
    found = []
    for each in (wide, model):
        steering = patch(each, vectors("block"))
        steering.set("joy", 0.8)
        with steering.learning("joy") as learned:
            assert learned.parameter.dtype is torch.float32
            loss_of(each, prompts).backward()
            found.append(learned.parameter.grad)
    assert found[1].dtype is torch.float32
    assert (found[1] - found[0]).norm() < 0.1 * found[0].norm()


def test_under_autocast(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors("block"))
    steering.set("joy")
    found = []
    with steering.learning("joy") as learned:
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                loss = loss_of(model, prompts)
            found.append(torch.autograd.grad(loss, learned.parameter)[0])
    assert (found[1] - found[0]).norm() < 0.1 * found[0].norm()
    assert not torch.equal(*found)


def test_checkpointing_gives_the_same_gradient(tiny, vectors, prompts):
    model = tiny().train()
    steering = patch(model, vectors())
    steering.set("joy")
    found = []
    with steering.learning() as learned:
        for kwargs in (None, {"use_reentrant": False}, {"use_reentrant": True}):
            if kwargs is not None:
                model.gradient_checkpointing_enable(kwargs)
                model.enable_input_require_grads()
            loss_of(model, prompts).backward()
            found.append(learned.parameter.grad)
            learned.parameter.grad = None
    assert found[0].abs().max() > 0
    for each in found[1:]:
        torch.testing.assert_close(each, found[0], rtol=1e-4, atol=1e-7)


def test_reentrant_checkpointing_that_would_lose_the_gradient_is_refused(tiny, vectors, prompts):
    model = tiny().train()
    steering = patch(model, vectors())
    steering.set("joy")
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.disable_input_require_grads()
    with (
        steering.learning("joy"),
        pytest.warns(UserWarning, match="None of the inputs"),
        pytest.raises(SteeringError, match="use_reentrant"),
    ):
        loss_of(model, prompts)


def test_a_step_between_forward_and_backward_leaves_the_gradient_of_the_forward(
    tiny, vectors, prompts
):
    model = tiny().train()
    steering = patch(model, vectors())
    steering.set("joy")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with steering.learning("joy", train_model=True) as learned:
        loss_of(model, prompts).backward()
        expected = gradients(model)
        loss = loss_of(model, prompts)
        kept = learned.parameter.detach().clone()
        with torch.no_grad():
            learned.parameter.copy_(-kept)
        wanted = [p for p in model.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, wanted)
    named = dict(zip(expected, found, strict=True))
    assert_equal_gradients(named, expected, 1e-5)


def test_the_model_is_frozen_unless_it_is_asked_for(tiny, vectors, prompts):
    model = tiny()
    model.lm_head.weight.requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    steering = patch(model, vectors())
    steering.set("joy")
    with steering.learning("joy") as learned:
        loss_of(model, prompts).backward()
        assert learned.parameter.grad is not None
        assert not gradients(model)
    assert [p.requires_grad for p in model.parameters()] == before
    with steering.learning("joy", train_model=True):
        loss_of(model, prompts).backward()
        assert len(gradients(model)) == sum(before)


def test_projection_keeps_the_norm_of_each_layer(tiny, vectors):
    own = vectors()
    steering = patch(tiny(), own)
    with steering.learning(["joy", "anger"]) as learned:
        with torch.no_grad():
            learned.parameter.add_(torch.randn_like(learned.parameter))
        learned.project()
        result = learned.vectors()
    for name in ("joy", "anger"):
        torch.testing.assert_close(result[name].norm(dim=-1), own[name].norm(dim=-1))
        assert torch.cosine_similarity(result[name], own[name], dim=-1).max() < 0.95
    assert torch.equal(result["sadness"], own["sadness"])


def test_a_layer_without_a_vector_gets_none(tiny, vectors, prompts):
    own = vectors()
    sparse = own["joy"].clone()
    sparse[1] = 0.0
    own = changed(own, "joy", sparse)
    model = tiny()
    steering = patch(model, own, layers=[0, 1])
    steering.set("joy")
    with steering.learning("joy") as learned:
        assert learned.layers == (0, 1)
        optimiser = torch.optim.Adam([learned.parameter], 0.1)
        for _ in range(3):
            optimiser.zero_grad()
            loss_of(model, prompts).backward()
            optimiser.step()
            learned.project()
        result = learned.vectors()
    assert not torch.equal(result["joy"][0], own["joy"][0])
    assert not result["joy"][1].any()
    assert torch.equal(result["joy"][2], own["joy"][2]), "this layer is not steered"


def test_what_was_learned_says_from_what(tiny, vectors, prompts, tmp_path):
    model, own = tiny(), vectors()
    steering = patch(model, own)

    class Likelihood:
        made_from = {"method": "likelihood", "texts": 4}  # noqa: RUF012

        def __call__(self, step: int) -> Tensor:
            with steering.requests(["joy"] * 4):
                return loss_of(model, prompts)

    result = learn_vectors(
        steering, ["joy"], Likelihood(), steps=8, rate=0.3, made_from={"data": "random"},
        progress=False,
    )  # fmt: skip
    result.save(tmp_path / "learned.safetensors")
    loaded = EmotionVectors.load(tmp_path / "learned.safetensors")
    (record,) = loaded.provenance["learned"]
    assert record["emotions"] == ["joy"]
    assert record["layers"] == [0, 1, 2]
    assert record["started_from"] == own.digest()
    assert record["made_from"] == {
        "method": "likelihood", "texts": 4, "data": "random", "steps": 8, "rate": 0.3,
        "keep_norms": True,
    }  # fmt: skip
    assert record["versions"]["torch"] == torch.__version__
    assert loaded.calibration is None
    assert not loaded.diagnostics
    with steering.requests(["joy"] * 4), torch.no_grad():
        before = loss_of(model, prompts)
    steering.unpatch()
    with patch(model, loaded).requests(["joy"] * 4), torch.no_grad():
        assert loss_of(model, prompts) < before - 0.02


@pytest.mark.parametrize("keep_norms", [True, False])
def test_the_dose_is_kept_unless_it_is_to_be_learned(keep_norms, tiny, vectors, prompts):
    model, own = tiny(), vectors()
    steering = patch(model, own)
    steering.set("joy")
    result = learn_vectors(
        steering, "joy", lambda step: loss_of(model, prompts), steps=4, rate=0.2,
        keep_norms=keep_norms, progress=False,
    )  # fmt: skip
    change = (result["joy"].norm(dim=-1) / own["joy"].norm(dim=-1) - 1).abs()
    assert bool((change < 1e-5).all()) == keep_norms
    assert not torch.equal(result["joy"], own["joy"])


def test_axes_behind_the_emotions_stay_as_they_are(tiny, prompts, vectors):
    """Those of the circumplex, which an `Affect` is mapped to."""
    model, own = tiny(), vectors()
    steering = patch(model, own, mapping="axes")
    steering.set(Affect(0.6, 0.3))
    with torch.no_grad():
        before = model(prompts).logits
        with steering.learning("joy") as learned:
            learned.parameter.neg_()
            assert torch.equal(model(prompts).logits, before)
            steering.set("joy")
            assert not torch.allclose(model(prompts).logits, before)
            assert learned.vectors().names == own.names


def test_unknown_emotions_and_empty_choices_are_refused(tiny, vectors):
    steering = patch(tiny(), vectors())
    with (
        pytest.raises(UnknownEmotionError, match="Did you mean 'joy'"),
        steering.learning(["joi"]),
    ):
        pass
    with pytest.raises(SteeringError, match="no emotions to learn"), steering.learning([]):
        pass


def test_vectors_of_zero_are_refused(tiny, vectors):
    own = changed(vectors(), "joy", torch.zeros(3, 64))
    steering = patch(tiny(), own)
    with pytest.raises(SteeringError, match="zero in the steered layers"), steering.learning("joy"):
        pass


def test_learning_within_inference_mode_is_refused(tiny, vectors):
    steering = patch(tiny(), vectors())
    with (
        torch.inference_mode(),
        pytest.raises(SteeringError, match="inference_mode"),
        steering.learning("joy"),
    ):
        pass


def test_learning_twice_at_a_time_is_refused_and_after_it_is_not(tiny, vectors):
    steering = patch(tiny(), vectors())
    with steering.learning("joy"):
        with pytest.raises(SteeringError, match="already"), steering.learning("anger"):
            pass
        with pytest.raises(SteeringError, match="already"), steering.learning("anger"):
            pass
    with steering.learning("anger") as learned:
        assert learned.names == ("anger",)


def test_a_parameter_that_was_cast_is_refused(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    with steering.learning("joy") as learned:
        learned.parameter.data = learned.parameter.data.bfloat16()
        with pytest.raises(SteeringError, match="learned in float32"):
            model(prompts)


def test_a_model_that_is_moved_or_cast_meanwhile_is_refused(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    with steering.learning("joy"):
        model.bfloat16()
        with pytest.raises(SteeringError, match="while vectors are learned"):
            model(prompts)
        model.float()
        model(prompts)


def test_an_unpatched_model_is_refused(tiny, vectors):
    steering = patch(tiny(), vectors())
    steering.unpatch()
    with pytest.raises(SteeringError, match="unpatched"), steering.learning("joy"):
        pass


def test_a_compiled_model_is_refused(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    compiled = torch.compile(model, backend="eager")
    with steering.learning("joy"), pytest.raises(Exception, match="while vectors are learned"):
        compiled(prompts)
    torch.compiler.reset()
    with torch.no_grad():
        compiled(prompts)
    with pytest.raises(SteeringError, match="compiled or captured"), steering.learning("joy"):
        pass


def test_losses_that_teach_nothing_are_refused(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())

    def unsteered(step: int) -> Tensor:
        with torch.no_grad():
            return loss_of(model, prompts)

    def steering_loss() -> Tensor:
        with steering.requests(["joy"] * 4):
            return loss_of(model, prompts)

    for loss, complaint in (
        (unsteered, "does not depend on the vectors"),
        (lambda step: steering_loss() * float("nan"), "not one finite number"),
        (lambda step: steering_loss().repeat(2), "not one finite number"),
    ):
        with pytest.raises(SteeringError, match=complaint):
            learn_vectors(steering, ["joy"], loss, steps=2, progress=False)

    with pytest.raises(SteeringError, match="steps and rate"):
        learn_vectors(steering, ["joy"], unsteered, steps=0)


def test_a_copy_made_meanwhile_is_patched_with_the_vectors_of_the_file(tiny, vectors, prompts):
    model, own = tiny(), vectors()
    steering = patch(model, own)
    steering.set("joy")
    with torch.no_grad():
        before = model(prompts).logits
    with steering.learning("joy") as learned:
        with torch.no_grad():
            learned.parameter.mul_(-1.0)
        twin = copy.deepcopy(model)
    with torch.no_grad():
        assert torch.equal(twin(prompts).logits, before)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_what_was_unlearned_or_blew_up_is_refused(value, tiny, vectors):
    with patch(tiny(), vectors()).learning(["joy", "anger"]) as learned:
        with torch.no_grad():
            learned.parameter[:, 1] *= value
        with pytest.raises(SteeringError, match=r"learned vectors of 'anger' are zero .*smaller"):
            learned.vectors()
