"""What steering code for Hugging Face models has got wrong before, one test for each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from emokernel import Request, patch
from emokernel.errors import SteeringError


def streams(model: nn.Module, ids: Tensor, layer: int, **given: object) -> Tensor:
    """What block ``layer`` returns."""
    kept: list[Tensor] = []
    handle = model.model.layers[layer].register_forward_hook(
        lambda _, __, output: kept.append(output.detach().clone())
    )
    with torch.no_grad():
        model(ids, **given)
    handle.remove()
    return kept[0]


def logits(model: nn.Module, ids: Tensor, **given: object) -> Tensor:
    with torch.no_grad():
        return model(ids, **given).logits


def test_blocks_return_a_tensor_and_every_row_of_the_batch_is_steered(tiny, vectors, prompts):
    """Guards against ``output[0]`` of a tensor, which is the first sequence and no stream."""
    model, ids = tiny(), prompts[:3]
    before = streams(model, ids, 1)
    patch(model, vectors("block"), layers=[1], law="add").set("joy", 2.0)
    wanted = before + 2.0 * vectors("block")["joy"][1]
    torch.testing.assert_close(streams(model, ids, 1), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
def test_position_ids_of_one_row_or_of_all_serve_a_batch(rows, tiny, vectors, prompts):
    """Guards against reading which token is where from position_ids, whose batch may be 1."""
    model, ids = tiny(), prompts[:3]
    steering = patch(model, vectors())
    steering.set("joy", 2.0)
    wanted = logits(model, ids)
    places = torch.arange(ids.shape[1])[None].expand(rows, -1)
    assert torch.equal(logits(model, ids, position_ids=places), wanted)
    asked = [Request("joy", 2.0, positions=positions) for positions in ("all", "prompt", "last")]
    with steering.requests(asked):
        wanted = logits(model, ids)
        assert torch.equal(logits(model, ids, position_ids=places), wanted)


def test_every_text_of_a_packed_row_is_steered(tiny, vectors, prompts):
    """Guards against taking the last time that positions start at 0 for the start of the text."""
    model, ids = tiny(), prompts.reshape(1, -1)[:, :9]
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0, 1]])
    before = streams(model, ids, 0, position_ids=places)
    patch(model, vectors("block"), layers=[0], law="add").set("joy", 2.0)
    wanted = before + 2.0 * vectors("block")["joy"][0]
    after = streams(model, ids, 0, position_ids=places)
    torch.testing.assert_close(after, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_has_the_bits_of_the_model_in_every_layer(side, tiny, vectors, prompts):
    """Guards against steering pads, which later layers and caches then read."""
    ids, mask = prompts.clone(), torch.ones_like(prompts)
    for row, pads in enumerate((0, 1, 3, 5)):
        columns = slice(0, pads) if side == "left" else slice(prompts.shape[1] - pads, None)
        ids[row, columns], mask[row, columns] = 5, 0
    model = tiny()
    given = {"attention_mask": mask, "output_hidden_states": True}
    with torch.no_grad():
        before = model(ids, **given).hidden_states
        patch(model, vectors("block"), layers=[0], fuse_norm=False).set("joy", 3.0)
        after = model(ids, **given).hidden_states
    pad = mask == 0
    assert torch.equal(after[1][pad], before[1][pad])
    assert (after[1][~pad] != before[1][~pad]).any(-1).all()


@pytest.mark.parametrize("positions", ["prompt", "generated", "last"])
def test_positions_are_those_of_the_text_and_not_of_the_call(positions, tiny, vectors, prompts):
    """Guards against an index or a mask that only counts the tokens of one call with a cache."""
    model = tiny()
    model.generation_config.eos_token_id = None
    steering = patch(model, vectors("block"), fuse_norm=False)
    steering.set("joy", 2.0, positions=positions)
    made = model.generate(
        prompts, max_new_tokens=5, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    with steering.requests(
        [Request("joy", 2.0, positions=positions)] * 4, prompt_lengths=[prompts.shape[1]] * 4
    ):
        whole = logits(model, made.sequences[:, :-1])
    got = torch.stack(made.logits, 1)
    torch.testing.assert_close(got, whole[:, -got.shape[1] :], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("where", ["in the block", "in the model", "in generate"])
def test_an_error_on_the_way_keeps_its_message(where, tiny, vectors, prompts):
    """Guards against clean-up that fails itself, and hides what went wrong."""
    model = tiny()
    steering = patch(model, vectors())

    def fail(*_: object) -> None:
        raise KeyError("the first error")

    handle = model.model.layers[1].mlp.register_forward_pre_hook(fail)
    run = {
        "in the block": fail,
        "in the model": lambda: model(prompts),
        "in generate": lambda: model.generate(prompts, max_new_tokens=2),
    }[where]
    with pytest.raises(KeyError, match="the first error"), steering.requests(["joy"] * 4):
        run()
    handle.remove()
    plain = logits(model, prompts)
    with steering.requests(["joy"] * 4):
        assert not torch.equal(logits(model, prompts), plain)
    assert torch.equal(logits(model, prompts), plain)


@pytest.mark.parametrize("captured", ["before patching", "after patching"])
def test_recorded_hidden_states_are_steered_whenever_recording_began(
    captured, tiny, vectors, prompts
):
    """Guards against hooks that run after those that record, so that vectors made from
    hidden_states would belong to another place than the one where they are added."""
    model = tiny()
    if captured == "before patching":
        model(prompts, output_hidden_states=True)
    before = streams(model, prompts, 1)
    patch(model, vectors("block"), layers=[1], law="add").set("joy", 2.0)
    with torch.no_grad():
        recorded = model(prompts, output_hidden_states=True).hidden_states[2]
    wanted = before + 2.0 * vectors("block")["joy"][1]
    torch.testing.assert_close(recorded, wanted, rtol=1e-5, atol=1e-5)


def test_the_last_hidden_state_is_the_norm_of_the_steered_row(tiny, vectors, prompts):
    """Guards against taking the last of hidden_states, which is normed, for a stream."""
    model = tiny()
    before = streams(model, prompts, 2)
    patch(model, vectors("block"), layers=[2], law="add").set("joy", 2.0)
    with torch.no_grad():
        recorded = model(prompts, output_hidden_states=True).hidden_states[-1]
        wanted = model.model.norm(before + 2.0 * vectors("block")["joy"][2])
    torch.testing.assert_close(recorded, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_layer_l_is_the_output_of_block_l(layer, tiny, vectors, prompts):
    """Guards against adding the vector of a layer to the input of its block, or to its
    neighbour's output."""
    model = tiny()
    before = [streams(model, prompts, index) for index in range(layer + 1)]
    patch(model, vectors("block"), law="add", layers=[layer]).set("joy", 2.0)
    after = [streams(model, prompts, index) for index in range(layer + 1)]
    for old, new in zip(before[:-1], after[:-1], strict=True):
        torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-5)
    wanted = before[-1] + 2.0 * vectors("block")["joy"][layer]
    torch.testing.assert_close(after[-1], wanted, rtol=1e-5, atol=1e-5)


def test_steering_what_is_generated_leaves_the_prompt(tiny, vectors, prompts):
    """Guards against steering the last token of the prompt, or a pad, along with the answer."""
    model = tiny()
    model.generation_config.eos_token_id = None
    mask = torch.ones_like(prompts)
    mask[1, :3] = 0
    steering = patch(model, vectors())
    options = {
        "attention_mask": mask, "max_new_tokens": 3, "do_sample": False, "output_logits": True,
        "return_dict_in_generate": True,
    }  # fmt: skip
    plain = model.generate(prompts, **options).logits
    steering.set("joy", 4.0, positions="generated")
    steered = model.generate(prompts, **options).logits
    assert torch.equal(steered[0], plain[0])
    assert not torch.allclose(steered[1], plain[1], atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("law", ["add", "preserve"])
def test_a_half_stays_a_half(law, dtype, tiny, vectors, prompts):
    """Guards against vectors in fp32 that turn the stream behind them into fp32."""
    model = tiny(dtype=dtype)
    patch(model, vectors(), law=law).set("joy", 2.0)
    with torch.no_grad():
        output = model(prompts, output_hidden_states=True)
    assert {t.dtype for t in (output.logits, *output.hidden_states)} == {dtype}


def test_a_checkpoint_fits_a_patched_model_and_the_other_way_round(tiny, vectors, prompts):
    """Guards against wrappers that rename parameters."""
    model, other = tiny(), tiny()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    names = [name for name, _ in model.named_parameters()]
    steering = patch(model, vectors())
    assert [name for name, _ in model.named_parameters()] == names
    model.load_state_dict(other.state_dict(), strict=True)
    tiny().load_state_dict(model.state_dict(), strict=True)
    wanted = logits(other, prompts)
    torch.testing.assert_close(logits(model, prompts), wanted, rtol=1e-4, atol=1e-5)
    steering.unpatch()
    assert torch.equal(logits(model, prompts), wanted)


def test_one_generate_leaves_nothing_to_the_next(tiny, vectors, prompts):
    """Guards against state of a class, and conditions that latch: two models, two threads, one
    `generate` after the other."""
    models = [tiny(), tiny()]
    handles = [patch(model, vectors()) for model in models]

    def run(which: int, emotion: str | None) -> Tensor:
        asked = [Request(emotion, 6.0, positions="last")] * 4
        with handles[which].requests(asked):
            return models[which].generate(prompts, max_new_tokens=4, do_sample=False)

    alone = {emotion: run(0, emotion) for emotion in ("joy", None)}
    assert not torch.equal(alone["joy"], alone[None])
    jobs = [(which, emotion) for _ in range(3) for which in (0, 1) for emotion in ("joy", None)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda job: run(*job), jobs))
    for (_, emotion), result in zip(jobs, results, strict=True):
        assert torch.equal(result, alone[emotion])


@pytest.mark.parametrize("law", ["add", "preserve"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_rows_that_are_zero_or_long_stay_finite(dtype, law, tiny, vectors, prompts):
    """Guards against 0/0 in a row of zeros, and against squares that overflow in fp16."""
    model = tiny(dtype=dtype)
    steering = patch(model, vectors("block"), layers=[0], law=law)
    embeddings = torch.randn(4, 7, 64, generator=torch.Generator().manual_seed(3)) * 1100.0
    embeddings[0], embeddings[1, 3] = 0.0, 0.0
    given = {"inputs_embeds": embeddings.to(dtype)}
    with torch.no_grad():
        plain = model(**given, output_hidden_states=True)
        for dose, strength in (("absolute", 2.0), ("absolute", 2000.0), ("relative", 0.5)):
            steering.set("joy", strength, dose=dose)
            steered = model(**given, output_hidden_states=True)
            assert all(torch.isfinite(stream).all() for stream in steered.hidden_states)
            assert torch.isfinite(steered.logits).all()
            if law == "preserve":
                old, new = (o.hidden_states[1].float().norm(dim=-1) for o in (plain, steered))
                torch.testing.assert_close(new, old, rtol=1e-2, atol=1e-3)


def test_rows_of_packed_sequences_are_not_steered_by_their_tokens_alone(tiny, vectors, prompts):
    """Guards against blocks of a cache that a steered and an unsteered request would share."""
    model = tiny()
    steering = patch(model, vectors())
    packed = {"cu_seq_lens_q": torch.tensor([0, 7])}
    plain = logits(model, prompts[:1])
    assert torch.equal(logits(model, prompts[:1], **packed), plain)
    with steering.requests(["joy"]), pytest.raises(SteeringError, match="continuous batching"):
        logits(model, prompts[:1], **packed)
