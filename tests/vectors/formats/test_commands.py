"""`emokernel convert` and `emokernel show`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from vectors_samples import foreign_files, rows, some_vectors

from emokernel import EmotionVectors
from emokernel.cli import main
from emokernel.lab.report.vectors_plot import columns_of, diagnostic, mean_cosines, plot_vectors


def run(capsys, *arguments):
    """(status, what was printed, what went to stderr)."""
    status = main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


@pytest.fixture
def native(tmp_path):
    path = tmp_path / "set.safetensors"
    some_vectors(("joy", "anger"), site="attention").save(path)
    return path


def test_convert_there_and_back_is_exact(native, tmp_path, capsys):
    status, told, _ = run(
        capsys, "convert", native, tmp_path / "set", "--to", "gguf", "--model-hint", "qwen2"
    )
    assert status == 0
    assert "(gguf): 2 emotions, 3 layers, hidden size 6, site attention" in told
    assert "note: llama.cpp cannot steer block 0" in told
    assert "note: llama.cpp and repeng add GGUF control vectors at the end of the block" in told
    for number, step in enumerate(("npz", "pt", "safetensors")):
        source = [tmp_path / "set", tmp_path / "1.npz", tmp_path / "2.pt"][number]
        status, told, _ = run(capsys, "convert", source, tmp_path / f"{number + 1}.{step}")
        assert (status, len(told.splitlines())) == (0, 1)
    first, last = (EmotionVectors.load(path) for path in (native, tmp_path / "3.safetensors"))
    assert torch.equal(first.tensor, last.tensor)
    for name in ("names", "site", "provenance", "diagnostics", "calibration"):
        assert getattr(last, name) == getattr(first, name)
    single = EmotionVectors.load(tmp_path / "set" / "joy.gguf")
    assert single.names == ("joy",)


def test_convert_tells_what_is_lost(native, tmp_path, capsys):
    status, told, _ = run(capsys, "convert", native, tmp_path / "set", "--to", "json")
    assert status == 0
    lost = "the order of the emotions (they are read by name), provenance, diagnostics, calibration"
    assert f"note: json files cannot hold: {lost}" in told


def test_convert_replaces_nothing_unless_told(native, tmp_path, capsys):
    target = tmp_path / "set.npz"
    target.write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    for place, options in ((target, []), (folder, ["--to", "gguf"])):
        if place == folder:
            (folder / "notes.txt").write_text("precious")
        status, _, error = run(capsys, "convert", native, place, *options)
        assert (status, error) == (
            2, f"emokernel: {place} exists: name another target, or say --force\n"
        )  # fmt: skip
        assert run(capsys, "convert", native, place, *options, "--force")[0] == 0
    assert EmotionVectors.load(target).names == ("joy", "anger")
    assert (folder / "notes.txt").read_text() == "precious"


def test_convert_takes_what_files_do_not_say(tmp_path, capsys):
    source = foreign_files(tmp_path)["repeng"]
    target = tmp_path / "happy.safetensors"
    status, *_ = run(
        capsys, "convert", source, target, "--names", "happy", "--site", "attention",
        "--num-layers", 7,
    )  # fmt: skip
    vectors = EmotionVectors.load(target)
    assert (status, vectors.names, vectors.site, vectors.num_layers) == (
        0, ("happy",), "attention", 7
    )  # fmt: skip
    (tmp_path / "qwen_joy.json").write_text('{"0": [[1, 2]]}')
    assert run(capsys, "convert", tmp_path / "qwen_joy.json", tmp_path / "j.pt", "--prefix",
               "qwen_")[0] == 0  # fmt: skip
    assert EmotionVectors.load(tmp_path / "j.pt").names == ("joy",)


def test_convert_refuses_in_one_line(native, tmp_path, capsys):
    for target, message in (
        (tmp_path / "set", "does not say a format by its ending: say it by --to"),
        (tmp_path / "set.gguf", "holds one emotion, these vectors have 2"),
    ):
        status, _, error = run(capsys, "convert", native, target)
        assert status == 2
        assert message in error
        assert len(error.splitlines()) == 1
        assert not target.exists()
    status, _, error = run(capsys, "convert", native, tmp_path / "x.npz", "--from", "gguf")
    assert (status, "say format='safetensors' (--from safetensors)" in error) == (2, True)
    status, _, error = run(capsys, "convert", tmp_path / "nowhere.pt", tmp_path / "x.npz")
    assert (status, "no such file" in error) == (2, True)


def test_show_tells_all(native, capsys):
    status, told, _ = run(capsys, "show", native)
    assert status == 0
    lines = told.splitlines()
    assert max(map(len, lines)) <= 100
    assert "emotions      2: joy, anger" in lines
    assert "layers        2 of 3 have vectors: 0, 2" in lines
    assert "site          attention" in lines
    norms = some_vectors(("joy", "anger")).tensor.double().norm(dim=-1)
    for layer in (0, 2):
        assert f"    {layer}{norms[layer, 0]:9.3f}{norms[layer, 1]:9.3f}" in lines
    for key, text in (("model", "some model"), ("judge", "some judge"), ("law", "preserve")):
        assert f"  {key:<13} {text}" in lines
    assert any(line.split() == ["joy", "1.500"] for line in lines)
    assert "  profile       0: 0.5, 1: 0.5, 2: 0.5" in lines
    assert any(line.split() == ["2", "0.500"] for line in lines)  # the AUC


def test_show_fits_many_emotions_and_hostile_names(tmp_path, capsys):
    names = ["\x1b[2Jclear", "new\nline", "$x$ " * 9, *(f"emotion {n}" for n in range(30))]
    provenance = {"data": "x" * 5000, "\x1b]": {"a": ["\x07"] * 200}}
    tensor = torch.randn(5, 33, 4, generator=torch.Generator().manual_seed(0))
    vectors = EmotionVectors(names, tensor, "block", provenance)
    vectors.save(tmp_path / "set.npz")
    status, told, _ = run(capsys, "show", tmp_path / "set.npz", "--plot", tmp_path / "set.png")
    assert status == 0
    assert max(map(len, told.splitlines())) <= 100
    assert "\x1b" not in told
    assert r"\x1b[2Jclear" in told
    norms = vectors.tensor.double().norm(dim=-1).flatten().tolist()
    assert all(f"{norm:.3f}" in told for norm in norms)
    assert "Norm of the vectors (continued)" in told
    assert Image.open(tmp_path / "set.png").size > (1000, 400)


def pixels(vectors, path):
    plot_vectors(vectors, path)
    return np.asarray(Image.open(path).convert("RGB"))


def test_the_picture_grows_with_the_diagnostics(tmp_path):
    plain = EmotionVectors(("joy", "fear"), torch.randn(3, 2, 4), "block")
    told = {
        "relative_norm": [[0.1, 0.2], None, [0.3, 0.4]], "auc_neutral": [[0.5, 0.9]] * 3,
        "auc_others": [[None, 0.8]] * 3, "base_share": [0.3, None, 0.2],
        "suggested_profile": [0, 1, 1],
    }  # fmt: skip
    full = EmotionVectors(plain.names, plain.tensor, "block", {}, told)
    sizes = [pixels(plain, tmp_path / "a.png").shape, pixels(full, tmp_path / "b.png").shape]
    assert sizes[1][0] > 1.8 * sizes[0][0]
    odd = EmotionVectors(plain.names, plain.tensor, "block", {}, {"auc_neutral": "high"})
    assert np.array_equal(pixels(odd, tmp_path / "c.png"), pixels(plain, tmp_path / "a.png"))


def test_measured_values_are_arrays_with_gaps():
    told = {"auc_neutral": [[0.5, 0.7], None, [None, 0.9]], "base_share": [1, 2], "cosine": 3}
    vectors = EmotionVectors(("joy", "fear"), torch.ones(3, 2, 4), "block", {}, told)
    nan = np.nan
    expected = [[0.5, 0.7], [nan, nan], [nan, 0.9]]
    np.testing.assert_array_equal(diagnostic(vectors, "auc_neutral"), expected)
    columns = columns_of(vectors)
    assert list(columns) == ["AUC neutral"]  # the share has too few layers
    np.testing.assert_allclose(columns["AUC neutral"], [0.6, nan, 0.9])


def test_cosines_are_means_over_layers_with_both():
    tensor = torch.zeros(3, 3, 2)
    tensor[0, 0], tensor[0, 1] = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 3.0])
    tensor[2, 0], tensor[2, 1] = torch.tensor([0.0, 2.0]), torch.tensor([0.0, -1.0])
    cosines = mean_cosines(EmotionVectors(("a", "b", "none"), tensor, "block"))
    np.testing.assert_allclose(cosines[0, 1], (0.5**0.5 - 1) / 2)
    np.testing.assert_allclose(np.diag(cosines), [1, 1, np.nan])
    assert np.isnan(cosines[2]).all()


def test_rows_of_another_model_are_told(tmp_path, capsys):
    np.save(tmp_path / "joy.npy", rows())
    np.save(tmp_path / "fear.npy", rows(width=5))
    (tmp_path / "set").mkdir()
    for name in ("joy.npy", "fear.npy"):
        (tmp_path / name).rename(tmp_path / "set" / name)
    status, _, error = run(capsys, "show", tmp_path / "set")
    assert (status, "they belong to two models" in error) == (2, True)
