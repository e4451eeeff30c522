"""Every block is proved when it is patched, with the very operations that serve it later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from emokernel import patch
from emokernel.errors import ModelStructureError
from emokernel.patch import placed

LAST = 2


@pytest.fixture
def fused_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], None]:
    """``fused_as(change)``: add_steer_rms_norm gives ``change(weight, normed, y)``."""
    select = placed.select

    def use(change: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        def changed(*args: object, **kwargs: object) -> object:
            backend = select(*args, **kwargs)
            own = backend.add_steer_rms_norm
            return replace(backend, add_steer_rms_norm=lambda *a: change(a[2], *own(*a)))

        monkeypatch.setattr(placed, "select", changed)

    return use


@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("layer", [0, LAST])
def test_the_bound_is_the_same_for_every_block(site, layer, tiny, vectors, fused_as):
    fused_as(lambda _, normed, y: (normed, y * (1 + 2e-4)))
    model = tiny()
    with pytest.raises(ModelStructureError, match=f"LlamaDecoderLayer {layer} gives other results"):
        patch(model, vectors(site), site=site, layers=[layer])
    assert "forward" not in vars(model.model.layers[layer])


@pytest.mark.parametrize(
    ("layer", "name"), [(0, "layers.1.input_layernorm"), (1, "layers.2.input_layernorm"),
                        (LAST, "norm")]
)  # fmt: skip
def test_a_norm_that_is_computed_ahead_is_compared_too(layer, name, tiny, vectors, fused_as):
    model = tiny()
    wrong = model.model.get_submodule(name).weight
    fused_as(lambda weight, normed, y: (normed * (1.5 if weight is wrong else 1.0), y))
    message = f"LlamaDecoderLayer {layer} gives other results to model.{name} in the patched"
    with pytest.raises(ModelStructureError, match=message):
        patch(model, vectors("block"), site="block")


def test_an_operation_that_fails_is_told_as_such(tiny, vectors, fused_as):
    def fail(*_: object) -> None:
        raise RuntimeError("no kernel image is available")

    fused_as(fail)
    message = r"LlamaDecoderLayer 1 does not run when patched \(no kernel image.*backend=, or with"
    with pytest.raises(ModelStructureError, match=message):
        patch(tiny(), vectors(), layers=[1])


def test_a_model_within_which_another_is_compiled_is_patched(tiny, vectors, prompts):
    model, plain = tiny(), tiny()
    model.model = torch.compile(model.model, backend="eager")
    steering = patch(model, vectors("block"), site="block")
    assert all(layer.norm for layer in steering.report().layers)
    with torch.no_grad():
        torch.testing.assert_close(model(prompts).logits, plain(prompts).logits)
