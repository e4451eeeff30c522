"""However vLLM cuts a request into steps, its tokens are steered as if there were one."""

from __future__ import annotations

import pytest
from real_vllm.cases import Case, assert_same_texts, tokens
from real_vllm.reference import Reference

STEPS = 50
KINDS = (
    {}, {"emotion": "joy"}, {"emotion": "anger", "positions": "generated"},
    {"emotion": "sadness", "positions": "prompt"}, {"emotion": "joy", "positions": "last"},
    {"emotion": {"joy": 0.5, "fear": 0.4}, "law": "add"},
)  # fmt: skip


@pytest.fixture(scope="module")
def reference(embedded):
    return Reference(embedded.folder, embedded.vectors)


def of_lengths(model, lengths, kinds=KINDS):
    """Prompts of these lengths, each with every kind of request."""
    ids = [token for prompt in model.prompts for token in prompt]
    return [Case(ids[:length], **kind) for length in lengths for kind in kinds]


def chunked(engines, model, **options):
    """An engine that takes 24 tokens a step, without a prefix cache."""
    return engines(
        model, model.emotions(), max_num_batched_tokens=24, max_num_seqs=8, max_model_len=128,
        enable_prefix_caching=False, disable_log_stats=False, **options,
    )  # fmt: skip


def test_chunks_and_preemption(engines, embedded, reference):
    """Generated tokens of a resumed request are computed as if they were prompt (trap 24)."""
    cases = of_lengths(embedded, (61, 40))
    engine = chunked(engines, embedded, num_gpu_blocks_override=9)
    before = engine.count("num_preemptions")
    assert_same_texts(engine.texts(cases, STEPS), reference.texts(cases, STEPS), cases)
    assert engine.count("num_preemptions") > before


def test_one_token(engines, embedded, reference):
    """One token is not always a generated one (trap 23): prompts of 1 token, last chunks of 1."""
    cases = of_lengths(embedded, (1, 2, 25, 49))
    engine = chunked(engines, embedded, num_gpu_blocks_override=9)
    expected = reference.texts(cases, 8)
    assert_same_texts(engine.alone(cases, 8), expected, cases)
    assert_same_texts(engine.texts(cases, 8), expected, cases)


def test_what_is_aborted_leaves_nothing_behind(engines, embedded, reference):
    """Half of a batch is aborted in the middle, and others take its place (traps 21 and 30)."""
    from vllm import SamplingParams

    cases = of_lengths(embedded, (20, 30))
    core = engines(embedded, embedded.emotions(), max_num_seqs=4).llm.llm_engine
    ids, said = [], {}
    for number, case in enumerate(cases):
        sampling = SamplingParams(
            temperature=0, max_tokens=20, ignore_eos=True, extra_args=case.extra_args()
        )
        prompt = {"prompt_token_ids": list(case.prompt)}
        ids.append(core.add_request(str(number), prompt, sampling))
    for _ in range(5):
        core.step()
    core.abort_request([ids[number] for number in range(0, len(ids), 2)], internal=True)
    while core.has_unfinished_requests():
        for output in core.step():
            if output.finished:
                said[int(output.request_id)] = list(output.outputs[0].token_ids)
    kept = cases[1::2]
    assert sorted(said) == list(range(1, len(cases), 2))
    assert [said[number] for number in sorted(said)] == tokens(reference.texts(kept, 20))


def test_several_answers_to_one_request(engines, embedded):
    """n = 3 is three requests of one emotion, which differ in their seeds."""
    from vllm import SamplingParams

    case = Case(embedded.prompts[1], "joy")
    llm = engines(embedded, embedded.emotions(), max_num_seqs=4).llm

    def ask(extra_args, seed, n=1):
        sampling = SamplingParams(n=n, seed=seed, max_tokens=20, extra_args=extra_args)
        prompt = {"prompt_token_ids": list(case.prompt)}
        (output,) = llm.generate([prompt], sampling, use_tqdm=False)
        return [list(said.token_ids) for said in output.outputs]

    several = ask(case.extra_args(), 5, n=3)
    assert several == [ask(case.extra_args(), seed)[0] for seed in (5, 6, 7)]
    assert several != ask(None, 5, n=3)
