"""What is compared does the same work: hooks and emokernel give the same logits in every case."""

from __future__ import annotations

import pytest
import torch
from transformers import StaticCache

from emokernel.bench.benchmark import BenchOptions, bench, check
from emokernel.bench.cases import Case
from emokernel.bench.decode import Decoding, random_prompt
from emokernel.bench.summary import table
from emokernel.bench.variants import VARIANTS, compared, with_baselines
from emokernel.errors import EmokernelError
from emokernel.vectors.calibration import Calibration

CASES = [
    Case(4, 5), Case(4, 5, 0.5), Case(4, 5, 1.0, 4), Case(4, 5, 0.75, 2, 3), Case(4, 5, 0.0, 0),
    Case(4, 5, 1.0, 3, 4, "1-2"), Case(4, 5, layers="0"),
]  # fmt: skip


@pytest.fixture
def logits(tiny, vectors, monkeypatch):
    """``logits(name, case)``: those of the last token ``[batch, vocabulary]`` of a generation."""
    seen: list[torch.Tensor] = []
    step = Decoding._step

    def stepping(self, model, tokens, cache):
        def call(**given):
            seen.append(model(**given))
            return seen[-1]

        step(self, call, tokens, cache)

    monkeypatch.setattr(Decoding, "_step", stepping)
    model = tiny()

    def of(name: str, case: Case, given=vectors("attention")) -> torch.Tensor:  # noqa: B008
        variant = VARIANTS[name]
        static = StaticCache(config=model.config, max_cache_len=12)
        decoding = Decoding(
            model, given, variant, random_prompt(model, case.batch, case.context), 3, case=case,
            slots=8, static=None if variant.mode == "eager" else static, compile_backend="eager",
        )  # fmt: skip
        decoding.ask(case)
        decoding()
        return seen[-1].logits[:, -1].clone()

    yield of
    torch._dynamo.reset()


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", ["emokernel", "emokernel_add"])
def test_hooks_and_emokernel_compute_the_same(name, case, logits):
    ours, theirs = logits(name, case), logits(VARIANTS[name].hook, case)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    plain = logits("unpatched", case)
    moved = (ours - plain).abs().amax(-1) > 1e-2
    assert moved.tolist() == [True] * case.steered + [False] * (case.batch - case.steered)


def test_compiled_ones_too(logits):
    case = Case(4, 5, 0.5, 2, 2, "1-2")
    ours, theirs = logits("emokernel_compiled", case), logits("compiled_hook", case)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours, logits("emokernel", case), rtol=1e-4, atol=1e-4)


def test_a_calibration_says_where_and_not_how_much(logits, vectors):
    """The layers of its profile are steered, by the vectors as they are, in both."""
    of = vectors("block")
    strengths = {"preserve absolute": dict.fromkeys(of.names, 3.0)}
    chosen = "preserve", "absolute", "wheel", "russell"
    given = of.with_calibration(Calibration("block", (0.0, 0.5, 1.0), *chosen, strengths, {}))
    case = Case(4, 5)
    ours, theirs = logits("emokernel", case, given), logits("plain_hook", case, given)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        ours, logits("emokernel", Case(4, 5, layers="1-2"), of), rtol=1e-4, atol=1e-4
    )


def test_at_another_site_hooks_are_refused(tiny, vectors):
    asked = BenchOptions(tuple(with_baselines(["emokernel", "plain_hook"])), site="attention")
    with pytest.raises(EmokernelError, match="plain_hook is other work than asked: a plain hook"):
        check([Case()], asked)
    check([Case()], BenchOptions(tuple(with_baselines(["emokernel"])), site="attention"))


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (("plain_hook", "emokernel"), None),
        (("emokernel", "emokernel_compiled"), "compiled against eager"),
    ],
)
def test_two_are_compared_alone(pair, told, tiny, vectors):
    first, second = pair
    options = BenchOptions(tuple(compared(*pair)), 3, 6, compile_backend="eager")
    (done,) = bench(tiny(), vectors(), [Case(2, 5)], options)
    rows = {row["variant"]: row for row in done.rows}
    assert list(rows) == [first, f"{first}_again", second]
    assert {row["baseline"] for row in done.rows} == {first}
    assert len(rows[f"{first}_again"]["noise"]) == 2
    assert len(rows[second]["ratio_interval"]) == 2
    assert not any(key.startswith("over_") for row in done.rows for key in row)
    printed = table(done.case, done.rows)
    assert f"time per token against {first.replace('_', ' ')}\n" in printed
    assert told is None or told in printed
    torch._dynamo.reset()
