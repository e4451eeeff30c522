"""What counts as within the law, number by number."""

from __future__ import annotations

import pytest
import torch

from emokernel import patch
from emokernel.choices import LAW
from emokernel.reference import row_law
from emokernel.verify.law import SiteCall, deviation, full_vector

SMALL = 8  # elements that the vector leaves alone
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def steered(dtype: torch.dtype, law: str, small: float) -> tuple[SiteCall, torch.Tensor]:
    """Rows as an exact kernel would steer them, and the vector; ``small``: the first elements."""
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(4, 64, generator=generator)
    before[:, :SMALL] = small * torch.rand(4, SMALL, generator=generator)
    before = before.to(dtype)
    vector = torch.randn(64, generator=generator).to(dtype).float()
    vector[:SMALL] = 0
    bits = torch.full((4,), int(LAW[law]))
    exact, _ = row_law(before, vector.expand(4, -1), bits, torch.float64)
    return SiteCall(before, exact.to(dtype)), vector


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("law", LAW)
@pytest.mark.parametrize("small", [1.0, 3e-6, 1e-7])  # the last two are subnormal in fp16
def test_rounding_keeps_the_law(small, law, dtype):
    call, vector = steered(dtype, law, small)
    assert deviation(call, vector, law, "absolute").keeps_law


def test_what_rounding_takes_from_rows_of_huge_elements_is_told_and_not_held_against_the_law():
    """As those of the first token of many models, which a vector hardly moves in bf16."""
    call, vector = steered(torch.bfloat16, "add", 1.0)
    before = call.before.clone()
    before[0] *= 2000
    exact = (before.double() + vector.double()).to(torch.bfloat16)
    found = deviation(SiteCall(before, exact), vector, "add", "absolute")
    assert found.keeps_law
    assert found.survives == pytest.approx(0.75, abs=0.05)
    assert "leaves 0.7" in str(found)
    half = (before.double() + vector.double() / 2).to(torch.bfloat16)
    found = deviation(SiteCall(before, half), vector, "add", "absolute")
    assert found.amount == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_little_more_than_the_contract_does_not(dtype):
    """3e-6 of a row in fp32, 1.6 ulp of an element in the halves."""
    call, vector = steered(dtype, "add", 1.0)
    if dtype is torch.float32:
        call.after.mul_(1 + 3e-6)
    else:
        call.before[:, 0] = 1.25
        call.after[:, 0] = 1.25 + 2 * torch.finfo(dtype).eps
    found = deviation(call, vector, "add", "absolute")
    assert found.error == pytest.approx(3e-6 if dtype is torch.float32 else 1.6, rel=0.05)
    assert not found.keeps_law


def test_a_vector_that_is_zero_in_a_layer_adds_nothing_under_a_relative_dose(tiny, vectors):
    own = vectors("block").at_layers([0])
    steering = patch(tiny(), own)
    assert not full_vector(steering, "joy", 1, "add", "relative", torch.float32).any()
