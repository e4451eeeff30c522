"""`emokernel verify` from end to end on a folder."""

from __future__ import annotations

from importlib.metadata import version

import pytest
import torch
from verify.conftest import FUSED

from emokernel import EmotionVectors
from emokernel.cli import main
from emokernel.verify import CHECKS, Finding, holds, verdict

SLOW = ("--skip", "compile")


def outcomes(text: str) -> dict[str, str]:
    """The word in front of each check in a verdict."""
    found = {}
    for line in text.splitlines():
        for name in CHECKS:
            if line[8:].startswith(f"{name} "):
                found[name] = line[:8].strip()
    return found


def test_all_holds_for_a_whole_model(folder, capsys):
    arguments = ["verify", str(folder), "--vectors", str(folder / "vectors.safetensors")]
    assert main([*arguments, "--compile-backend", "aot_eager"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("```\nemokernel verify: all that ran holds (8 passed, 1 not run)\n")
    assert told.endswith("\n```\n")
    expected = dict.fromkeys(CHECKS, "pass") | {"cuda-graphs": "not run"}
    assert outcomes(told) == expected
    for piece in (
        f"torch {version('torch')}", "LlamaForCausalLM", "torch.float32, cpu", str(folder),
        "vectors.safetensors, 4 emotions", "3 of 3 layers patched at site 'attention'",
        "cuda-graphs   no GPU",
    ):  # fmt: skip
        assert piece in told


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_folder_without_a_tokenizer_is_verified(family, tiny, tmp_path, capsys):
    tiny(family).save_pretrained(tmp_path)
    assert main(["verify", str(tmp_path), *SLOW]) == 0
    told = capsys.readouterr()
    assert "prompts: random tokens, no tokenizer knows the words" in told.out
    # transformers makes an empty tokenizer for GPT-2.
    assert (f"no tokenizer in {tmp_path}: going on" in told.err) is (family == "llama")


def test_what_fails_is_told_and_exits_with_1(folder, breaking, capsys):
    def change(run, given):
        *others, weights, law = given
        return run(*others, 1.01 * weights, law)

    breaking(change, *FUSED)
    arguments = ["verify", str(folder), "--vectors", str(folder / "vectors.safetensors"), *SLOW]
    assert main(arguments) == 1
    told = capsys.readouterr().out
    assert "emokernel verify: FAILED (6 passed, 1 failed, 2 not run)" in told
    assert [name for name, word in outcomes(told).items() if word == "FAIL"] == ["effect"]


def test_random_vectors_stand_in_and_are_said_to(folder, capsys):
    assert main(["verify", str(folder), *SLOW]) == 0
    assert "random ones at site 'attention'" in capsys.readouterr().out


def test_a_model_that_cannot_be_patched_gets_a_verdict(folder, tmp_path, capsys):
    vectors = tmp_path / "other.safetensors"
    EmotionVectors.from_tensors({"joy": torch.ones(3, 8)}).save(vectors)
    assert main(["verify", str(folder), "--vectors", str(vectors)]) == 1
    told = capsys.readouterr().out
    assert outcomes(told) == dict.fromkeys(CHECKS, "not run") | {"structure": "FAIL"}
    assert "these vectors belong to another model" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--skip", "singing"], "unknown check singing: choose from structure, exactness"),
        (["--compile-backend", "abacus"], "torch.compile has no backend 'abacus'"),
        (["--vectors", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--device-map", "cuda:0"], "there is no device 'cuda:0' here"),
    ],
)
def test_wrong_arguments_are_one_line_and_2(arguments, told, folder, capsys):
    if "cuda:0" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["verify", str(folder), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("emokernel: ")
    assert told in error


def test_a_verdict_says_what_was_not_run():
    findings = [Finding("a", True, "fine", 0.1), Finding("b", None, "no GPU")]
    assert holds(findings)
    assert "verify: all that ran holds (1 passed, 1 not run)" in verdict(["model"], findings)
    assert "verify: all holds (1 passed)" in verdict(["model"], findings[:1])
    assert not holds([*findings, Finding("c", False, "off by 1 %")])


def test_where_nothing_ran_nothing_holds(folder, capsys):
    skipped = [part for name in CHECKS for part in ("--skip", name)]
    assert main(["verify", str(folder), *skipped]) == 1
    told = capsys.readouterr().out
    assert f"emokernel verify: NOTHING WAS SHOWN ({len(CHECKS)} not run)" in told
