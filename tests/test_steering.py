"""Emotions in, rows out: requests, positions, padding, generation, errors."""

from __future__ import annotations

import contextvars
import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from transformers import DynamicCache, GenerationConfig

from emokernel import Affect, EmokernelError, EmotionVectors, Request, patch
from emokernel.errors import SteeringError, UnknownEmotionError


def logits(model, ids, **kwargs):
    with torch.no_grad():
        return model(ids, **kwargs).logits


def left_padded(prompts, pads=(0, 2, 3, 5), pad=5):
    # Not the model's pad token, whose embedding is zero: the law leaves zero rows alone anyway.
    ids, mask = prompts.clone(), torch.ones_like(prompts)
    for row, count in enumerate(pads):
        ids[row, :count], mask[row, :count] = pad, 0
    return ids, mask


def streams(model, ids, layer, **kwargs):
    """The residual stream after a block ``[batch, tokens, d]``."""
    with torch.no_grad():
        return model(ids, output_hidden_states=True, **kwargs).hidden_states[layer + 1]


def test_every_request_gets_the_bits_it_gets_among_other_neighbours(tiny, vectors, prompts):
    model = tiny(dtype=torch.bfloat16)
    steering = patch(model, vectors())
    with steering.requests(["joy", "anger", None, {"sadness": -1.0, "surprise": 0.5}]):
        first = logits(model, prompts)
    with steering.requests(["joy", None, Affect(-0.5, 0.866), {"sadness": -1.0, "surprise": 0.5}]):
        second = logits(model, prompts)
    assert torch.equal(first[[0, 3]], second[[0, 3]])
    assert not torch.equal(first[1], second[1])
    assert torch.equal(first[2], logits(model, prompts)[2])


def test_requests_override_set_and_restore_it(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    plain = logits(model, prompts)
    steering.set("joy")
    joyful = logits(model, prompts)
    with steering.requests(["anger"]):
        angry = logits(model, prompts)
        with steering.requests([None]):
            assert torch.equal(logits(model, prompts), plain)
        assert torch.equal(logits(model, prompts), angry)
    assert torch.equal(logits(model, prompts), joyful)
    with pytest.raises(RuntimeError), steering.requests(["anger"]):
        raise RuntimeError
    assert torch.equal(logits(model, prompts), joyful)
    steering.set(None)
    assert torch.equal(logits(model, prompts), plain)


def test_a_failed_set_changes_nothing(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    steering.set("joy")
    joyful = logits(model, prompts)
    for bad in ("joyy", {"joy": float("inf")}):
        with pytest.raises(EmokernelError):
            steering.set(bad)
    assert torch.equal(logits(model, prompts), joyful)


class Written:
    """In the place of `DeviceState.write`: fails, or looks whether anybody sees what is written."""

    def __init__(self, steering, monkeypatch, look=lambda: None):
        self.broken, self._look = True, look
        (self._state,) = steering.requested.states.devices
        self._write = self._state.write
        monkeypatch.setattr(self._state, "write", self)

    def __call__(self, slot, mix):
        self._look()
        if self.broken:
            self._state.records[slot] = 0  # it was half written
            raise RuntimeError("the device is lost")
        self._write(slot, mix)
        self._look()


@pytest.mark.parametrize("before", ["joy", None])
def test_a_set_whose_record_cannot_be_written_changes_nothing(
    before, tiny, vectors, prompts, monkeypatch
):
    model = tiny()
    steering = patch(model, vectors())
    steering.set(before)
    wanted = logits(model, prompts)
    written = Written(steering, monkeypatch)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="the device is lost"):
            steering.set("anger", positions="last")
        assert torch.equal(logits(model, prompts), wanted)
        assert steering.requested.entries() == ([steering.requested.resolve(before)])
    written.broken = False
    steering.set("anger")
    assert not torch.equal(logits(model, prompts), wanted)


def test_a_mix_that_is_set_is_written_before_anything_points_to_it(
    tiny, vectors, prompts, monkeypatch
):
    """Forwards that begin on the way, as those of other threads may, have what was set before."""
    model = tiny()
    steering = patch(model, vectors())
    seen = []
    written = Written(steering, monkeypatch, lambda: seen.append(logits(model, prompts)))
    written.broken = False
    before = logits(model, prompts)
    for emotion in ("joy", "anger", "sadness", "joy"):
        seen.clear()
        steering.set(emotion)
        assert len(seen) == 2
        for each in seen:
            assert torch.equal(each, before)
        before = logits(model, prompts)
    steering.off()
    assert steering.requested.slots_of_set.held == 0


def test_set_takes_no_slot_of_requests(tiny, vectors, prompts):
    steering = patch(tiny(), vectors(), slots=2)
    for emotion in ("joy", "anger", "sadness"):
        steering.set(emotion)
        with steering.requests(["joy", "anger"]):
            pass


def test_a_change_whose_record_cannot_be_written_changes_nothing(
    tiny, vectors, prompts, monkeypatch
):
    model = tiny()
    steering = patch(model, vectors(), slots=2)
    with steering.requests(["joy"]) as opened:
        wanted = logits(model, prompts)
        with monkeypatch.context() as broken:
            Written(steering, broken)
            with pytest.raises(RuntimeError, match="the device is lost"):
                opened.change(["anger"])
        assert torch.equal(logits(model, prompts), wanted)
        assert steering.requested.slots.held == 1
        opened.change(["anger"])
        assert not torch.equal(logits(model, prompts), wanted)


def test_a_change_gives_its_slot_back_when_nothing_points_to_it_any_more(
    tiny, vectors, monkeypatch
):
    steering = patch(tiny(), vectors(), slots=2)
    retired = []
    (state,) = steering.requested.states.devices
    with steering.requests(["joy"]) as opened:
        slots = opened.plan.slots.unique().tolist()

        def retire(slot):
            retired.append((slot, opened.plan.slots.unique().tolist()))

        monkeypatch.setattr(state, "retire", retire)
        opened.change(["anger"])
        assert retired == [(slots[0], opened.plan.slots.unique().tolist())]
        assert slots != opened.plan.slots.unique().tolist()


def test_nothing_can_be_wanted_of_what_cannot_be_steered(tiny, vectors, prompts):
    """`requests([None])` runs whatever the model runs without any."""
    model = tiny()
    steering = patch(model, vectors())
    causal = torch.ones(4, 1, 7, 7, dtype=torch.bool).tril()
    wanted = logits(model, prompts, attention_mask=causal)
    steering.set("joy")
    with steering.requests([None]):
        assert torch.equal(logits(model, prompts, attention_mask=causal), wanted)


def test_strength_scales_a_mix(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    steering.set({"joy": 0.6, "anger": -0.3}, strength=2.0)
    scaled = logits(model, prompts)
    steering.set({"joy": 1.2, "anger": -0.6})
    assert torch.equal(logits(model, prompts), scaled)


def test_relative_dose_counts_in_norms_of_the_row(tiny, vectors, prompts):
    model = tiny()
    before = streams(model, prompts, 1)
    direction = vectors("block")["joy"][1]
    steering = patch(model, vectors("block"), layers=[1])
    steering.set("joy", 0.5, dose="relative", law="add")
    expected = before + 0.5 * before.norm(dim=-1, keepdim=True) * direction / direction.norm()
    torch.testing.assert_close(streams(model, prompts, 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("site", ["attention", "block"])
def test_padding_is_never_touched(site, tiny, vectors, prompts):
    ids, mask = left_padded(prompts)
    for side in ("left", "right"):
        if side == "right":
            ids, mask = ids.flip(1), mask.flip(1)
        model = tiny()
        before = streams(model, ids, 0, attention_mask=mask)
        steering = patch(model, vectors(site), layers=[0], fuse_norm=False)
        steering.set("joy", 3.0)
        after = streams(model, ids, 0, attention_mask=mask)
        pad = mask == 0
        assert torch.equal(after[pad], before[pad])
        assert (after[~pad] != before[~pad]).any(-1).all()


def touched(model, steering, ids, layer=0, **kwargs):
    """Which tokens differ from the run with nothing set, bool ``[batch, tokens]``."""
    changed = streams(model, ids, layer, **kwargs)
    with steering.requests([None]):
        return (changed != streams(model, ids, layer, **kwargs)).any(-1)


@pytest.mark.parametrize("side", ["left", "right"])
def test_positions_in_a_plain_forward(side, tiny, vectors, prompts):
    ids, mask = left_padded(prompts)
    if side == "right":
        ids, mask = ids.flip(1), mask.flip(1)
    model = tiny()
    steering = patch(model, vectors("block"), layers=[0])
    real = mask != 0
    last = torch.zeros_like(real)
    for row in range(4):
        last[row, real[row].nonzero().max()] = True
    wanted = {"all": real, "prompt": real, "generated": real & ~real, "last": last}
    for positions, expected in wanted.items():
        steering.set("joy", positions=positions)
        assert torch.equal(touched(model, steering, ids, attention_mask=mask), expected), positions


def test_positions_with_prompt_lengths(tiny, vectors, prompts):
    ids, mask = left_padded(prompts)
    model = tiny()
    steering = patch(model, vectors("block"), layers=[0])
    lengths = (mask.sum(-1) - 2).clamp(min=1)
    place = mask.cumsum(-1)
    real = mask != 0
    wanted = {
        "all": real,
        "prompt": real & (place <= lengths[:, None]),
        "generated": real & (place > lengths[:, None]),
        "last": real & (place >= lengths[:, None]),
    }
    for positions, expected in wanted.items():
        requests = [Request("joy", positions=positions)] * 4
        with steering.requests(requests, prompt_lengths=lengths, attention_mask=mask):
            changed = streams(model, ids, 0, attention_mask=mask)
        steering.off()
        plain = streams(model, ids, 0, attention_mask=mask)
        assert torch.equal((changed != plain).any(-1), expected), positions


def stepwise(model, steering, request, ids, mask, generated):
    """Logits of the last token when ``generated`` is fed after the prompt, without a cache."""
    full = torch.cat([ids, generated], 1)
    full_mask = torch.cat([mask, torch.ones_like(generated)], 1)
    lengths = mask.sum(-1)
    with steering.requests([request] * len(ids), prompt_lengths=lengths, attention_mask=mask):
        return logits(model, full, attention_mask=full_mask)


@pytest.mark.parametrize("positions", ["all", "prompt", "generated", "last"])
def test_generate_steers_the_same_tokens_as_one_full_forward(positions, tiny, vectors, prompts):
    ids, mask = left_padded(prompts)
    model = tiny()
    model.generation_config.eos_token_id = None
    steering = patch(model, vectors())
    steering.set("joy", 4.0, positions=positions)
    arguments = {"attention_mask": mask, "max_new_tokens": 5, "do_sample": False}
    output = model.generate(ids, **arguments, output_logits=True, return_dict_in_generate=True)
    steering.off()
    plain = model.generate(ids, **arguments, output_logits=True, return_dict_in_generate=True)
    generated = output.sequences[:, ids.shape[1] :]
    request = Request("joy", 4.0, positions=positions)
    full = stepwise(model, steering, request, ids, mask, generated)
    for step, got in enumerate(output.logits):
        torch.testing.assert_close(
            got, full[:, ids.shape[1] - 1 + step], rtol=1e-3, atol=1e-4, msg=f"step {step}"
        )
    changed = (output.logits[0] - plain.logits[0]).abs().max() > 1e-3
    assert bool(changed) == (positions != "generated")


def test_generate_with_and_without_cache_agree(tiny, vectors, prompts):
    ids, mask = left_padded(prompts)
    model = tiny()
    model.generation_config.eos_token_id = None
    steering = patch(model, vectors())
    with steering.requests(["joy", None, "anger", Request("sadness", positions="generated")]):
        texts = [
            model.generate(
                ids, attention_mask=mask, max_new_tokens=6, do_sample=False, use_cache=cache
            )
            for cache in (True, False)
        ]
    assert torch.equal(*texts)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("positions", ["all", "last"])
def test_generate_infers_the_padding_that_generate_infers(positions, cache, tiny, vectors, prompts):
    ids, mask = left_padded(prompts, pad=0)
    model = tiny()
    with torch.no_grad():
        model.model.embed_tokens.weight[0] = 0.3
    steering = patch(model, vectors())
    steering.set("joy", 3.0, positions=positions)
    config = GenerationConfig(max_new_tokens=4, do_sample=False, cache_implementation=cache)
    seen = []
    model.model.layers[0].register_forward_pre_hook(
        lambda *_: seen.append(steering.requested.states.devices[0].running.token_slot)
    )
    inferred = model.generate(ids, generation_config=config)
    assert torch.equal(inferred, model.generate(ids, attention_mask=mask, generation_config=config))
    last = torch.arange(7) == 6
    expected = mask.bool() if positions == "all" else (mask.bool() & last)
    assert torch.equal(seen[0].view_as(ids) == 0, expected)


@pytest.mark.parametrize("positions", ["prompt", "generated", "last"])
def test_a_filled_cache_and_new_tokens_only(positions, tiny, vectors, prompts):
    model = tiny()
    model.generation_config.eos_token_id = None
    steering = patch(model, vectors())
    steering.set("joy", 4.0, positions=positions)

    def second_turn(past, ids):
        steering.off()
        cache = DynamicCache(config=model.config)
        logits(model, prompts, past_key_values=cache)
        steering.set("joy", 4.0, positions=positions)
        mask = torch.ones(4, 7 + 3, dtype=torch.long)
        output = model.generate(
            ids, attention_mask=mask, past_key_values=cache, max_new_tokens=3, do_sample=False,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        return torch.stack(output.logits)

    new = prompts[:, :3]
    torch.testing.assert_close(
        second_turn(7, new), second_turn(7, torch.cat([prompts, new], 1)), rtol=1e-4, atol=1e-5
    )


def test_mixed_batch_generates_what_each_request_generates_in_its_place(tiny, vectors, prompts):
    ids, mask = left_padded(prompts)
    model = tiny()
    model.generation_config.eos_token_id = None
    steering = patch(model, vectors())
    wanted = ["joy", None, "anger", {"sadness": 1.0, "surprise": 0.5}]
    arguments = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False}
    with steering.requests(wanted):
        mixed = model.generate(ids, **arguments)
    for row, request in enumerate(wanted):
        with steering.requests([request]):
            assert torch.equal(model.generate(ids, **arguments)[row], mixed[row])


def test_sampling_is_steered_and_reproducible(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    texts = []
    for emotion in ("joy", "joy", None):
        steering.set(emotion, 6.0)
        torch.manual_seed(7)
        texts.append(model.generate(prompts, max_new_tokens=12, do_sample=True))
    assert torch.equal(texts[0], texts[1])
    assert texts[0].shape != texts[2].shape or not torch.equal(texts[0], texts[2])


def test_beams_repeat_each_request_in_place(tiny, vectors, prompts):
    model = tiny()
    model.generation_config.eos_token_id = None
    steering = patch(model, vectors())
    arguments = {"max_new_tokens": 5, "do_sample": False, "num_beams": 3}
    with steering.requests(["joy", None, "anger", None]):
        mixed = model.generate(prompts, **arguments)
    for row, request in enumerate(["joy", None, "anger", None]):
        with steering.requests([request]):
            assert torch.equal(model.generate(prompts, **arguments)[row], mixed[row])


def test_masks_that_do_not_show_padding_are_refused(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    causal = torch.ones(4, 1, 7, 7, dtype=torch.bool).tril()
    logits(model, prompts, attention_mask=causal)
    steering.set("joy")
    with pytest.raises(SteeringError, match="2-D attention_mask"):
        logits(model, prompts, attention_mask=causal)
    with steering.requests(["joy"] * 4, attention_mask=torch.ones_like(prompts)):
        logits(model, prompts, attention_mask=causal)


def test_an_own_decoding_loop_with_a_cache(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors("block"), layers=[0])
    lengths = [7] * 4
    requests = [Request("joy", positions="generated")] * 4
    cache = DynamicCache(config=model.config)
    with steering.requests(requests, prompt_lengths=lengths):
        first = logits(model, prompts, past_key_values=cache)
        second = logits(model, prompts[:, :1], past_key_values=cache)
    cache = DynamicCache(config=model.config)
    assert torch.equal(first, logits(model, prompts, past_key_values=cache))
    assert not torch.equal(second, logits(model, prompts[:, :1], past_key_values=cache))


def test_threads_have_requests_of_their_own(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    expected = {}
    for emotion in ("joy", "anger"):
        with steering.requests([emotion]):
            expected[emotion] = logits(model, prompts)
    plain, wrong = logits(model, prompts), []
    start = threading.Barrier(3)

    def run(emotion):
        start.wait()
        for _ in range(10):
            with steering.requests([emotion]):
                if not torch.equal(logits(model, prompts), expected[emotion]):
                    wrong.append(emotion)

    threads = [threading.Thread(target=run, args=(emotion,)) for emotion in expected]
    for thread in threads:
        thread.start()
    start.wait()
    for _ in range(10):
        if not torch.equal(logits(model, prompts), plain):
            wrong.append(None)
    for thread in threads:
        thread.join()
    assert wrong == []


def test_unknown_emotion_names_the_nearest(tiny, vectors):
    steering = patch(tiny(), vectors())
    with pytest.raises(UnknownEmotionError, match=r"'sadnes'.*Did you mean 'sadness'.*anger, joy"):
        steering.set("sadnes")


def test_slots_run_out_with_a_clear_error_and_come_back(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors(), slots=2)
    mixes = ["joy", "anger", "sadness", None]
    for _ in range(3):
        with (
            pytest.raises(SteeringError, match=r"no more slots.*slots="),
            steering.requests(mixes),
        ):
            pass
    with steering.requests(["joy", "anger", "joy", None]):
        logits(model, prompts)
        with pytest.raises(SteeringError, match="no more slots"), steering.requests(["sadness"]):
            pass
    with steering.requests(["sadness", "surprise"] * 2):
        logits(model, prompts)


def test_requests_that_do_not_fit_the_batch(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    for count in (3, 5, 8):
        with (
            steering.requests(["joy"] * count),
            pytest.raises(SteeringError, match=f"{count} requests do not fit a batch of 4"),
        ):
            logits(model, prompts)
    with steering.requests(["joy", "anger"]):
        pair = logits(model, prompts)
    with steering.requests(["joy", "joy", "anger", "anger"]):
        assert torch.equal(logits(model, prompts), pair)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.set("joy", float("nan")), "finite"),
        (lambda s: s.set("joy", "1"), "finite"),
        (lambda s: s.set("joy", 1e39), "finite"),
        (lambda s: s.set({"joy": None}), "finite"),
        (lambda s: s.set("joy", 10**400), "strength must be a finite number"),
        (lambda s: s.set("joy", True), "strength must be a finite number"),
        (lambda s: s.set({"joy": 10**400}), "the weight of 'joy' must be a finite number"),
        (lambda s: s.set({"joy": True}), "the weight of 'joy' must be a finite number"),
        (lambda s: s.set(3), "an emotion is"),
        (lambda s: s.set("joy", law="keep"), "unknown law"),
        (lambda s: s.set("joy", dose="much"), "unknown dose"),
        (lambda s: s.set("joy", positions="first"), "unknown positions"),
        (lambda s: s.requests("joy").__enter__(), "a list"),
        (lambda s: s.requests([]).__enter__(), "a list"),
        (lambda s: s.requests(None).__enter__(), "a list"),
        (lambda s: s.requests(Affect(0.5, 0.5)).__enter__(), "a list"),
        (lambda s: s.requests(["joy"], prompt_lengths=[1, 2]).__enter__(), "prompt_lengths"),
        (
            lambda s: s.requests(["joy"], attention_mask=torch.ones(2, 3)).__enter__(),
            "attention_mask",
        ),
    ],
)
def test_bad_requests_are_refused(call, message, tiny, vectors):
    with pytest.raises(SteeringError, match=message):
        call(patch(tiny(), vectors()))


def test_more_than_eight_components_are_refused(tiny):
    names = [f"emotion{n}" for n in range(9)]
    nine = EmotionVectors.from_tensors({name: torch.ones(3, 64) for name in names})
    steering = patch(tiny(), nine)
    steering.set(dict.fromkeys(names[:8], 0.1))
    with pytest.raises(SteeringError, match="9 emotions is too large"):
        steering.set(dict.fromkeys(names, 0.1))


def test_numpy_numbers_are_numbers(tiny, vectors):
    patch(tiny(), vectors()).set({"joy": np.float32(0.5)}, strength=np.float64(2.0))


def test_a_thread_in_a_copy_of_the_context_sees_its_requests(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    seen = []
    with steering.requests(["joy"]):
        expected = logits(model, prompts)
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(lambda: seen.append(logits(model, prompts)),))
        thread.start()
        thread.join()
    assert torch.equal(seen[0], expected)


def test_a_model_patched_in_inference_mode_works_outside(tiny, vectors, prompts):
    model = tiny()
    with torch.inference_mode():
        steering = patch(model, vectors())
        steering.set("joy")
        model.generate(prompts, max_new_tokens=2)
    steering.set("anger")
    model(prompts).logits.sum().backward()


def test_vectors_that_overflow_the_dtype_are_refused(tiny):
    huge = EmotionVectors.from_tensors({"joy": torch.full((3, 64), 1e5)})
    with pytest.raises(SteeringError, match=r"do not fit torch\.float16"):
        patch(tiny(dtype=torch.float16), huge)


def test_report_says_what_was_done(tiny, vectors):
    text = str(patch(tiny(), vectors(), layers=[0, 2], fuse_norm=False).report())
    unfused = "LlamaDecoderLayer 0, 2: add_steer, norm not fused"
    for part in ("LlamaForCausalLM", "2 of 3 layers", "'attention'", unfused):
        assert part in text


def test_an_emotion_that_is_zero_where_it_is_steered_is_refused(tiny):
    rows = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    part = rows.clone()
    part[1:] = 0.0
    vectors = EmotionVectors.from_tensors({"joy": rows, "anger": part}, site="block")
    steering = patch(tiny(), vectors, layers=[1, 2])
    for emotion in ("anger", {"anger": 0.5, "joy": 0.0}):
        with pytest.raises(SteeringError, match=r"is zero in every steered layer \(1-2\)"):
            steering.set(emotion)
        with pytest.raises(SteeringError, match="is zero"), steering.requests([emotion]):
            pass
    steering.set({"anger": 1.0, "joy": 0.5})
    steering.set({"anger": 0.0})


def test_an_unpatched_model_keeps_nothing_on_its_device(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    steering.set("joy")
    logits(model, prompts)
    state = weakref.ref(steering.placed[0].state)
    steering.unpatch()
    gc.collect()
    assert state() is None


def test_a_slot_cannot_be_held_in_an_unpatched_model(tiny, vectors):
    steering = patch(tiny(), vectors())
    mix = steering.requested.resolve("joy").mix
    steering.unpatch()
    with pytest.raises(SteeringError, match="not patched"):
        steering.requested.slots.hold([mix])


def test_learning_ends_in_a_model_that_was_unpatched_meanwhile(tiny, vectors):
    steering = patch(tiny(), vectors())
    state = steering.placed[0].state
    with steering.learning("joy"):
        assert state.learned is not None
        steering.unpatch()
    assert state.learned is None


def test_all_devices_of_a_model_share_one_lock(tiny, vectors):
    """Two would be taken in another order by whoever holds one of them already."""
    requested = patch(tiny(), vectors()).requested
    assert [state.lock for state in requested.states.devices] == [requested.states.lock]
