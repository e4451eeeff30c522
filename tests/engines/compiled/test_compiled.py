"""torch.compile of a patched model: one graph, whatever is asked for; and captured graphs."""

from __future__ import annotations

import copy
import dataclasses
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from patch import families
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    CompileConfig,
    GenerationConfig,
    LogitsProcessor,
    PreTrainedModel,
    StaticCache,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)

import emokernel
from emokernel import Affect, EmotionVectors, Request, Steering, patch
from emokernel.errors import SteeringError
from emokernel.patch import decoder_forward as patched_forward
from emokernel.patch.placed import Placed

NEW_TOKENS = 6
CACHES = ("dynamic", "static")

# What is asked for, one after the other: nothing, one mix for all, one for each of four sequences,
# two for four; every law, dose and choice of positions among them.
ASKED: tuple[list, ...] = (
    [None],
    ["joy"],
    ["joy", None, Request("anger", 3.0, positions="last"), "sadness"],
    [Request("joy", -4.0, positions="generated"), Request("surprise", 3.0, positions="prompt")],
    [None, {"joy": 3.0, "anger": -2.0}, Request(Affect(-0.5, 0.5), 4.0), None],
    [Request("joy", 0.3, law="add", dose="relative"), Request("sadness", 2.0, law="add")],
)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def ids(prompts: Tensor) -> Tensor:
    return prompts


def generated(
    model: PreTrainedModel, ids: Tensor, mask: Tensor | None = None, cache: str = "dynamic"
) -> list:
    """Greedy continuations, and the logits that they were chosen by."""
    options = {"cache_implementation": "static"} if cache == "static" else {}
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids) if mask is None else mask, do_sample=False,
        max_new_tokens=NEW_TOKENS, pad_token_id=0, output_logits=True,
        return_dict_in_generate=True, **options,
    )  # fmt: skip
    return [out.sequences, torch.stack(out.logits)]


def assert_close(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def compiled_forward(model: PreTrainedModel, backend: str = "eager") -> CompileCounterWithBackend:
    """Compile the model's forward in place; what counts its graphs."""
    counter = CompileCounterWithBackend(backend)
    model.forward = torch.compile(model.forward, fullgraph=True, backend=counter)
    return counter


def keeping(graphs: list[str]) -> Callable:
    """A backend of torch.compile that keeps the code of every graph, and runs it as it is."""

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable:
        graphs.append(str(graph.code))
        return graph.forward

    return backend


@pytest.mark.parametrize("cache", CACHES)
def test_generating_compiles_as_often_as_unpatched_whatever_is_asked(pair, padded, cache):
    unpatched, model, steering = pair()
    eager, reference = copy.deepcopy(unpatched), patch(unpatched, steering.vectors)
    counted = compiled_forward(eager)
    generated(eager, *padded("left"), cache)
    torch._dynamo.reset()  # it learns from each model which sizes change
    counter = compiled_forward(model)
    for side in ("left", "right"):
        plain, moved = generated(unpatched, *padded(side), cache)[0], 0
        for asked in ASKED:
            with steering.requests(asked):
                got = generated(model, *padded(side), cache)
            with reference.requests(asked):
                wanted = generated(unpatched, *padded(side), cache)
            assert_close(got, wanted)
            moved += not torch.equal(wanted[0], plain)
        assert moved >= len(ASKED) - 2  # the oracle was steered
    assert counter.frame_count == counted.frame_count


def test_plain_calls_compile_once_whatever_is_asked(pair, padded):
    unpatched, model, steering = pair()
    reference = patch(unpatched, steering.vectors)
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    ids, mask = padded("left")

    def logits(of: Callable, by: Steering, asked: list, **how) -> Tensor:
        with torch.no_grad(), by.requests(asked, **how):
            return of(input_ids=ids, attention_mask=mask).logits

    for asked in ASKED:
        for how in ({}, {"prompt_lengths": [2] * len(asked)}):
            got = logits(compiled, steering, asked, **how)
            assert_close([got], [logits(unpatched, reference, asked, **how)])
    for emotion, options in (
        ("joy", {"strength": 2.0}), ("joy", {"strength": -1.0, "law": "add"}),
        ({"anger": 1.0, "joy": 1.0}, {"positions": "last"}),
    ):  # fmt: skip
        steering.set(emotion, **options)
        reference.set(emotion, **options)
        with torch.no_grad():
            got = compiled(input_ids=ids, attention_mask=mask).logits
            assert_close([got], [unpatched(input_ids=ids, attention_mask=mask).logits])
    steering.off()
    reference.off()
    with torch.no_grad():
        got = compiled(input_ids=ids, attention_mask=mask).logits
        assert_close([got], [unpatched(input_ids=ids, attention_mask=mask).logits])
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("family", "site", "fuse_norm", "backend"),
    [
        ("llama", "attention", False, "cpu"), ("qwen3", "attention", True, "cpu"),
        ("gemma", "attention", True, "cpu"), ("gpt2", "attention", True, "cpu"),
        ("gpt2", "block", True, "cpu"), ("olmo2", "attention", True, "cpu"),
        ("phi", "block", True, "cpu"), ("qwen3", "attention", True, "reference"),
        ("gpt2", "block", True, "reference"), ("phi", "block", True, "reference"),
    ],
)  # fmt: skip
def test_other_structures_compile_into_one_graph(
    tiny, vectors, ids, family, site, fuse_norm, backend
):
    model, eager = tiny(family), tiny(family)
    steering = patch(model, vectors(site), site=site, fuse_norm=fuse_norm, backend=backend)
    reference = patch(eager, vectors(site), site=site, fuse_norm=fuse_norm)
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for asked in ASKED[1:4]:
        with torch.no_grad(), steering.requests(asked):
            got = compiled(input_ids=ids).logits
        with torch.no_grad(), reference.requests(asked):
            wanted = eager(input_ids=ids).logits
        assert_close([got], [wanted])
    assert counter.frame_count == 1


def as_on_a_gpu(steering) -> None:
    """The CPU's operations in the place of a GPU's, which compute the norm under torch.compile."""
    for placed in steering.placed:
        placed.backend = dataclasses.replace(placed.backend, fuses_compiled=True)


@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma", "nemotron"])
def test_fused_norms_compile_as_they_do_on_a_gpu(tiny, vectors, ids, family, site):
    model, eager = tiny(family), tiny(family)
    steering, reference = (patch(m, vectors(site), site=site) for m in (model, eager))
    as_on_a_gpu(steering)
    graphs: list[str] = []
    compiled = torch.compile(model, fullgraph=True, backend=keeping(graphs))
    for asked in ASKED[:4]:
        with torch.no_grad(), steering.requests(asked):
            got = compiled(input_ids=ids).logits
        with torch.no_grad(), reference.requests(asked):
            assert_close([got], [eager(input_ids=ids).logits])
    (code,) = graphs
    is_layer_norm = family in ("gpt2", "nemotron")
    operation = "add_steer_layer_norm" if is_layer_norm else "add_steer_rms_norm"
    assert code.count(f"emokernel.{operation}.default(") == len(steering.report().layers)
    for name, value in model.named_parameters():  # the norm's own parameters are read in each call
        if "norm" in name or "ln_" in name:
            value.data.mul_(1.5)
            eager.get_parameter(name).data.mul_(1.5)
    with torch.no_grad():
        assert_close([compiled(input_ids=ids).logits], [eager(input_ids=ids).logits])
    for each in (model, eager):
        for module in each.modules():
            for eps in {"eps", "variance_epsilon"} & vars(module).keys():
                setattr(module, eps, 0.5)
    with torch.no_grad():
        assert_close([compiled(input_ids=ids).logits], [eager(input_ids=ids).logits])


@pytest.mark.parametrize("before", [True, False], ids=["compiled-before", "compiled-after"])
def test_what_others_write_between_blocks_counts_in_compiled_models(tiny, vectors, ids, before):
    """Norms are computed ahead under torch.compile too, on a GPU."""
    extra = torch.linspace(-1.0, 1.0, 64)

    def wrap(model):
        inner = model.model.layers[1].forward

        def forward(hidden_states, *args, **kwargs):
            hidden_states += extra
            return inner(hidden_states, *args, **kwargs)

        model.model.layers[1].forward = forward

    model, eager = tiny(), tiny()
    wrap(eager)
    steering = patch(model, vectors("block"), site="block")
    as_on_a_gpu(steering)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        if before:
            compiled(input_ids=ids)
        wrap(model)
        assert_close([compiled(input_ids=ids).logits], [eager(input_ids=ids).logits])


@pytest.mark.parametrize("family", ["llama", "gpt2", "nemotron"])
def test_compiled_fused_norms_leave_gradients_to_their_own_parameters(tiny, vectors, ids, family):
    """Lower blocks frozen, upper ones trained: a frozen add stands before a norm that is not."""
    found = []
    for compiles in (False, True):
        model = tiny(family)
        model.requires_grad_(False)
        blocks = model.transformer.h if family == "gpt2" else model.model.layers
        blocks[2].requires_grad_(True)
        run = model
        if compiles:
            as_on_a_gpu(patch(model, vectors("block"), site="block"))
            run = torch.compile(model, fullgraph=True, backend="aot_eager")
        run(input_ids=ids, use_cache=False).logits.square().mean().backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert all(grad is not None for grad in found[1].values())
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("backend", "told", "law", "fused"),
    [("cpu", "the law alone", True, False), ("reference", "torch's own operations", False, False)],
)
def test_the_report_says_what_a_compiled_add_is(tiny, vectors, ids, backend, told, law, fused):
    model = tiny()
    steering = patch(model, vectors(), backend=backend)
    graphs: list[str] = []
    with torch.no_grad():
        torch.compile(model, fullgraph=True, backend=keeping(graphs))(input_ids=ids)
    (line,) = [x for x in str(steering.report()).splitlines() if "under torch.compile" in x]
    assert told in line
    assert ("emokernel.add_steer.default" in graphs[0]) == law
    assert ("emokernel.add_steer_rms_norm" in graphs[0]) == fused


def test_a_block_whose_last_add_is_out_of_sight_compiles_too():
    model, ids = families.build("openai-gpt"), families.prompts()
    generator = torch.Generator().manual_seed(5)
    joy = torch.randn(families.LAYERS, families.WIDTH, generator=generator)
    steering = patch(model, EmotionVectors.from_tensors({"joy": joy}, site="block"))
    assert {layer.operation for layer in steering.report().layers} == {"steer"}
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        for strength in (0.0, 1.0, -2.0):
            steering.set("joy", strength)
            assert_close([compiled(input_ids=ids).logits], [model(input_ids=ids).logits])


def test_inductor_gives_what_eager_gives(pair, padded):
    """The code that torch.compile really makes, on a static cache."""
    unpatched, model, steering = pair()
    reference = patch(unpatched, steering.vectors)
    model.forward = torch.compile(model.forward, fullgraph=True, mode="reduce-overhead")
    for asked in ASKED[2:4]:
        with steering.requests(asked):
            got = generated(model, *padded("left"), "static")
        with reference.requests(asked):
            assert_close(got, generated(unpatched, *padded("left"), "static"))


def test_generate_compiles_by_itself(pair, ids):
    unpatched, model, steering = pair()
    reference = patch(unpatched, steering.vectors)
    compiled: list[str] = []
    # A function, since generate copies its options deeply.
    how = CompileConfig(fullgraph=True, backend=keeping(compiled), mode=None)
    how._compile_all_devices = True
    config = GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0, cache_implementation="static"
    )
    for asked in ASKED:
        with steering.requests(asked):
            got = model.generate(ids, generation_config=copy.deepcopy(config), compile_config=how)
        with reference.requests(asked):
            wanted = unpatched.generate(ids, generation_config=copy.deepcopy(config))
        assert got.tolist() == wanted.tolist()
    assert len(compiled) == 1  # the decoding step; the prompt is not compiled


def test_set_between_two_tokens_holds_from_the_next_one_on(pair, ids):
    unpatched, model, steering = pair()
    reference = patch(unpatched, steering.vectors)

    class Change(LogitsProcessor):
        def __init__(self, of: Steering) -> None:
            self.of, self.tokens = of, 0

        def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
            self.tokens += 1
            emotion = ("joy", "anger", None)[self.tokens % 3]
            self.of.set(emotion, 4.0, positions=("generated", "all")[self.tokens % 2])
            return scores

    outputs = []
    for of, by in ((model, steering), (unpatched, reference)):
        if of is model:
            counter = compiled_forward(of)
        options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
        change = Change(by)
        outputs.append(
            of.generate(ids, cache_implementation="static", logits_processor=[change], **options)
        )
        by.off()
    assert outputs[0].tolist() == outputs[1].tolist()
    assert counter.frame_count == 2  # the prompts, one token


@pytest.mark.parametrize("blocks", [False, True])
def test_what_is_compiled_in_place_is_steered(pair, ids, blocks):
    """``model.compile()``, or ``block.compile()`` with the decoder as it is."""
    unpatched, model, steering = pair()
    reference = patch(unpatched, steering.vectors)
    for part in model.model.layers if blocks else [model]:
        part.compile(fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(recompile_limit=32):  # every block is compiled for itself
        for asked in ASKED:
            with steering.requests(asked):
                got = generated(model, ids)
            with reference.requests(asked):
                assert_close(got, generated(unpatched, ids))


def test_a_call_that_the_requests_do_not_fit_is_untouched_and_an_error_follows(pair, ids):
    unpatched, model, steering = pair()
    compiled = torch.compile(model, fullgraph=True, backend="eager")

    def fail() -> None:
        with steering.requests(["joy", None, "anger"]):
            compiled(input_ids=ids)
            raise KeyError("of the caller's own")

    with torch.no_grad():
        compiled(input_ids=ids)
        with (
            pytest.raises(SteeringError, match="give one request per sequence"),
            steering.requests(["joy", None, "anger"]),
        ):
            got = compiled(input_ids=ids).logits
        assert_close([got], [unpatched(input_ids=ids).logits])
        with steering.requests(["joy"]):  # the error does not stay
            compiled(input_ids=ids)
        with pytest.raises(KeyError, match="of the caller's own"):
            fail()
        with steering.requests(["joy"]):  # nor where another one came first
            compiled(input_ids=ids)


def test_what_a_buffer_cannot_hold_is_refused_where_it_is_asked_for(pair, ids):
    _, model, steering = pair()
    counter = compiled_forward(model)
    generated(model, ids)
    assert counter.frame_count
    mask = torch.ones_like(ids)
    mask[0, 2] = 0
    steering.set("joy")
    with pytest.raises(SteeringError, match="attention_mask with holes"):
        generated(model, ids, mask)
    options = {"max_new_tokens": 2, "do_sample": False, "pad_token_id": 0}
    with pytest.raises(SteeringError, match="runs texts beside the own one"):
        model.generate(ids, guidance_scale=2.0, **options)
    beside = UnbatchedClassifierFreeGuidanceLogitsProcessor(2.0, model)
    with pytest.raises(SteeringError, match="runs texts beside the own one"):
        model.generate(ids, logits_processor=[beside], **options)
    generated(model, ids)  # and the model still runs
    few = patch(copy.deepcopy(pair()[0]), steering.vectors, slots=2)
    torch.compile(few._model, backend="eager")(input_ids=ids)
    with (
        pytest.raises(SteeringError, match="there are 4 requests: patch with a larger slots="),
        few.requests(["joy"] * 4),
    ):
        pass
    with few.requests(["joy", "anger"]):  # the slots were given back
        pass


def test_a_mask_that_does_not_show_padding_is_refused(pair, ids):
    _, model, steering = pair()
    compiled = torch.compile(model, backend="eager")
    steering.set("joy")
    with pytest.raises(Exception, match="2-D attention_mask"), torch.no_grad():
        compiled(input_ids=ids, attention_mask=torch.ones(4, 1, 7, 7, dtype=torch.bool))


def test_a_model_that_is_patched_again_or_not_at_all_is_compiled_again(pair, vectors, ids):
    unpatched, model, steering = pair()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        steering.set("joy", 2.0)
        steered = compiled(input_ids=ids).logits
        steering.unpatch()
        plain = unpatched(input_ids=ids).logits
        assert_close([compiled(input_ids=ids).logits], [plain])
        assert not torch.allclose(steered, plain, atol=1e-3)
        for number in range(3):  # objects that were freed may lie where others lay before
            again = patch(model, vectors("block", scale=0.1 * (number + 1)))
            again.set("anger", 2.0)
            assert_close([compiled(input_ids=ids).logits], [model(input_ids=ids).logits])
            again.unpatch()


def test_a_model_that_is_cast_or_loaded_anew_is_followed(tiny, vectors, ids):
    model = tiny()
    steering = patch(model, vectors())
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    steering.set("joy", 2.0)
    with torch.no_grad():
        compiled(input_ids=ids)
        for dtype in (torch.bfloat16, torch.float32):
            model.to(dtype)
            model(input_ids=ids)  # the state follows here, outside of what was compiled
            got, wanted = compiled(input_ids=ids).logits, model(input_ids=ids).logits
            torch.testing.assert_close(got, wanted, rtol=2e-2, atol=2e-2)
        steering.set("anger", -2.0)
        assert_close([compiled(input_ids=ids).logits], [model(input_ids=ids).logits])
        for dtype in (torch.bfloat16, torch.float32):  # and within
            got = compiled.to(dtype)(input_ids=ids).logits
            torch.testing.assert_close(got, model(input_ids=ids).logits, rtol=2e-2, atol=2e-2)
        weights = {name: value * 1.1 for name, value in model.state_dict().items()}
        model.load_state_dict(weights, assign=True)
        assert_close([compiled(input_ids=ids).logits], [model(input_ids=ids).logits])


def test_gradients_are_those_of_eager_mode(tiny, vectors, ids):
    gradients = []
    for compiles in (False, True):
        model = tiny().train()
        steering = patch(model, vectors())
        run = torch.compile(model, fullgraph=True, backend="aot_eager") if compiles else model
        with steering.requests(["joy", None, Request("anger", 2.0, law="add"), "sadness"]):
            run(input_ids=ids, labels=ids).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_backward_pass_uses_what_its_forward_used_or_is_refused(tiny, vectors, ids, backend):
    gradients = []
    for run_by in (None, backend):
        model = tiny().train()
        steering = patch(model, vectors())
        run = torch.compile(model, fullgraph=True, backend=run_by) if run_by else model
        with steering.requests([Request("joy", 3.0), None]):
            loss = run(input_ids=ids, labels=ids).loss
        with steering.requests([Request("anger", -2.0, law="add"), "sadness"]):
            if run_by == "aot_eager":  # which keeps the slots themselves, not their copy
                with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                    loss.backward()
                return
            loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    assert_close(gradients[1], gradients[0])


def test_an_exported_program_could_not_be_steered(tiny, vectors, ids):
    model = tiny()
    steering = patch(model, vectors())
    for strict in (False, True):
        with pytest.raises(Exception, match=r"torch.export .* unpatch\(\)"):
            torch.export.export(model, (ids,), strict=strict)
    compiled = torch.compile(model, fullgraph=True, backend="eager")  # and nothing was spoilt
    steering.set("joy", 2.0)
    with torch.no_grad():
        assert_close([compiled(input_ids=ids).logits], [model(input_ids=ids).logits])


def test_learning_and_compiling_exclude_each_other(tiny, vectors, ids, captured):
    model = tiny()
    steering = patch(model, vectors())
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with steering.learning(["joy"]):
        with pytest.raises(Exception, match="while vectors are learned"):
            compiled(input_ids=ids)
        with pytest.raises(SteeringError, match="while vectors are learned"):
            captured(model, input_ids=ids)
    torch._dynamo.reset()
    compiled(input_ids=ids)
    with pytest.raises(SteeringError, match="was compiled or captured"), steering.learning(["joy"]):
        pass


class Capture(TorchDispatchMode):
    """Records operations with the very tensors they ran on; `replay` runs them there again.

    As a CUDA graph does: results land in the memory of the first time, and no Python of the model
    runs. Nothing of emokernel's may ask for a value meanwhile, which would wait for the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            own = Path(emokernel.__file__).parent
            near = [f.filename for f in traceback.extract_stack() if "/torch/" not in f.filename]
            assert own not in Path(near[-2]).parents, near[-2]
        result = func(*args, **kwargs)
        self._steps.append((func, args, kwargs, tree_leaves(result)))
        return result

    def replay(self) -> None:
        for func, args, kwargs, results in self._steps:
            for old, new in zip(results, tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def elsewhere(call: Callable) -> None:
    """Run it in another thread, which has a context of its own."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(call).result()


def test_set_from_another_thread_does_not_override_open_requests(pair, ids):
    unpatched, model, steering = pair()
    reference = patch(unpatched, steering.vectors)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    asked = [Request("joy", 3.0, positions="prompt"), None]
    with torch.no_grad(), steering.requests(asked), reference.requests(asked):
        compiled(input_ids=ids)
        elsewhere(lambda: steering.set("anger", 3.0))
        assert_close([compiled(input_ids=ids).logits], [unpatched(input_ids=ids).logits])
    reference.set("anger", 3.0)  # which holds from the end of the block on
    with torch.no_grad():
        assert_close([compiled(input_ids=ids).logits], [unpatched(input_ids=ids).logits])


def test_two_texts_are_not_generated_at_a_time(pair, ids):
    """Their prompts end at different places, and there is one buffer."""
    _, model, steering = pair()
    compiled_forward(model)
    steering.set("joy", positions="generated")
    first = generated(model, ids)

    class Beside(LogitsProcessor):
        def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
            with pytest.raises(SteeringError, match="one caller at a time"):
                elsewhere(lambda: generated(model, ids[:, :3]))
            return scores

    again = model.generate(
        ids, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0, logits_processor=[Beside()]
    )
    assert again.tolist() == first[0].tolist()


def test_what_held_for_a_block_or_a_generation_ends_with_it(pair, ids):
    unpatched, model, steering = pair()
    reference = patch(unpatched, steering.vectors)
    compiled_forward(model)

    def compared() -> None:
        with torch.no_grad():
            assert_close([model(input_ids=ids).logits], [unpatched(input_ids=ids).logits])

    compared()
    with steering.requests(["joy"]):
        pass
    compared()  # nothing is asked
    for of in (steering, reference):
        of.set("joy", 3.0, positions="prompt")
    generated(model, ids[:, :2])
    compared()  # all of it is prompt again


def test_a_change_that_is_refused_changes_nothing(pair, ids):
    unpatched, model, steering = pair()
    compiled_forward(model)
    generated(model, ids)
    mask = torch.ones_like(ids)
    mask[0, 2] = 0

    class Change(LogitsProcessor):
        def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
            with pytest.raises(SteeringError, match="attention_mask with holes"):
                steering.set("joy", 3.0)
            return scores

    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    got = model.generate(ids, attention_mask=mask, logits_processor=[Change()], **options)
    assert got.tolist() == unpatched.generate(ids, attention_mask=mask, **options).tolist()
    assert_close(generated(model, ids), generated(unpatched, ids))


def test_requests_of_two_threads_do_not_mix(pair, ids):
    """What is compiled has one caller; in eager mode every thread has requests of its own."""
    _, model, steering = pair()
    compiled = torch.compile(model, fullgraph=True, backend="eager")

    def ask() -> None:
        with steering.requests(["anger"]):
            pass

    before = ThreadPoolExecutor(1)  # a thread that was started within the block has its requests
    before.submit(str).result()
    with before, torch.no_grad(), steering.requests(["joy"]):
        elsewhere(ask)
        with pytest.raises(Exception, match="one caller at a time"):
            before.submit(lambda: compiled(input_ids=ids)).result()
        torch._dynamo.reset()
        compiled(input_ids=ids)
        with pytest.raises(SteeringError, match="one caller at a time"):
            elsewhere(ask)
        with steering.requests(["anger"]):  # here it is the same caller
            compiled(input_ids=ids)
    elsewhere(ask)


def test_a_thread_started_in_a_block_generates_for_its_caller(pair, ids):
    unpatched, model, steering = pair()
    reference = patch(unpatched, steering.vectors)
    compiled_forward(model)
    generated(model, ids)
    got = []
    asked = [Request("joy", 3.0, positions="generated"), None, "anger", None]
    with steering.requests(asked), pytest.warns(UserWarning, match="started within a requests"):
        elsewhere(lambda: got.extend(generated(model, ids)))
    with reference.requests(asked):
        assert_close(got, generated(unpatched, ids))


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """``captured(model, **inputs)`` records a call; what it gives replays it: the logits.

    The model has to run once before, as it has on a GPU.
    """

    def capture(model: PreTrainedModel, **inputs: object) -> Callable[[], Tensor]:
        monkeypatch.setattr(patched_forward, "is_captured", lambda _: False)
        monkeypatch.setattr(patched_forward, "can_be_captured", lambda _: True)
        with monkeypatch.context() as patched, torch.no_grad():
            patched.setattr(patched_forward, "is_captured", lambda _: True)
            with Capture() as recorded:
                logits = model(**inputs).logits

        def replay() -> Tensor:
            with torch.no_grad():
                recorded.replay()
            return logits.clone()

        return replay

    return capture


def test_a_model_that_was_moved_is_ready_for_a_capture_after_one_call(tiny, vectors, monkeypatch):
    """It is on the GPU only when the call has followed it there."""
    model, there = tiny(), []
    steering = patch(model, vectors())
    follow = Placed.follow
    monkeypatch.setattr(Placed, "follow", lambda self: (follow(self), there.append(self)))
    monkeypatch.setattr(patched_forward, "is_captured", lambda _: False)
    monkeypatch.setattr(patched_forward, "can_be_captured", lambda _: bool(there))
    with torch.no_grad():
        model(torch.arange(3, 9)[None])
    assert steering.placed[0].state.plan_buffer is not None


@pytest.mark.parametrize("site", ["attention", "block"])
def test_a_captured_graph_reads_what_is_asked_now(tiny, vectors, padded, captured, site):
    model, eager = tiny(), tiny()
    steering, reference = (patch(m, vectors(site), site=site) for m in (model, eager))
    ids, mask = padded("left")
    with pytest.raises(SteeringError, match="run the model once before"):
        captured(model, input_ids=ids, attention_mask=mask)
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
    replay = captured(model, input_ids=ids, attention_mask=mask)
    for asked in ASKED:
        with torch.no_grad(), steering.requests(asked):
            got = replay()
        with torch.no_grad(), reference.requests(asked):
            assert_close([got], [eager(input_ids=ids, attention_mask=mask).logits])
    steering.set("joy", 2.0, positions="last")
    reference.set("joy", 2.0, positions="last")
    with torch.no_grad():
        assert_close([replay()], [eager(input_ids=ids, attention_mask=mask).logits])


@pytest.mark.parametrize("family", ["llama", "gpt2", "nemotron"])
def test_a_captured_graph_reads_the_weights_of_now(tiny, vectors, padded, captured, family):
    model, eager = tiny(family), tiny(family)
    for each in (model, eager):
        patch(each, vectors("block"), site="block", fuse_norm=each is model).set("joy", 0.5)
    ids, mask = padded("left")
    with pytest.raises(SteeringError, match="run the model once before"):
        captured(model, input_ids=ids, attention_mask=mask)
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
    replay = captured(model, input_ids=ids, attention_mask=mask)
    replay()
    for name, value in model.named_parameters():
        if "norm" in name or "ln_" in name:
            value.data.mul_(1.5)
            eager.get_parameter(name).data.mul_(1.5)
    with torch.no_grad():
        assert_close([replay()], [eager(input_ids=ids, attention_mask=mask).logits])


def test_a_captured_decoding_step_goes_on_over_a_static_cache(tiny, vectors, ids, captured):
    model, eager = tiny(), tiny()
    steering, reference = (patch(m, vectors()) for m in (model, eager))
    asked = [Request("joy", 3.0, positions="generated"), None, "anger", Request("joy", -2.0)]
    token = torch.full((4, 1), 7)
    caches = [StaticCache(config=model.config, max_cache_len=24) for _ in range(2)]
    lengths = [7] * 4
    with pytest.raises(SteeringError, match="run the model once before"):
        captured(model, input_ids=token)
    with torch.no_grad(), steering.requests(asked, prompt_lengths=lengths):
        model(input_ids=ids, past_key_values=caches[0])
        step = captured(model, input_ids=token, past_key_values=caches[0])
    # Recording has run one step: so does the other model.
    with torch.no_grad(), reference.requests(asked, prompt_lengths=lengths):
        eager(input_ids=ids, past_key_values=caches[1])
        eager(input_ids=token, past_key_values=caches[1])
        for number in range(3):
            token.fill_(10 + number)
            wanted = eager(input_ids=token, past_key_values=caches[1]).logits
            with steering.requests(asked, prompt_lengths=lengths):
                assert_close([step()], [wanted])


def test_a_generation_that_outlives_its_block_is_an_error_when_it_ends(tiny, vectors, ids):
    """Nothing can be told in what was compiled; eager mode stops at once."""
    model = tiny()
    steering = patch(model, vectors())
    third, go_on, found = threading.Event(), threading.Event(), []

    class Slow:
        calls = 0

        def put(self, _):
            self.calls += 1
            if self.calls == 4:
                third.set()
                assert go_on.wait(60)

        def end(self):
            pass

    def work():
        try:
            found.append(model.generate(ids, max_new_tokens=6, do_sample=False, streamer=Slow()))
        except SteeringError as error:
            found.append(error)

    model.forward = torch.compile(model.forward, backend="eager", dynamic=True)
    with steering.requests(["joy"]):
        thread = threading.Thread(target=work)
        thread.start()
        assert third.wait(60)
    go_on.set()
    thread.join()
    assert "was closed before its end" in str(found[0])
