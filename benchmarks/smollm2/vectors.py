"""Make the emotion vectors of smollm2 that ship, and calibrate them.

    python -m smollm2.vectors

In `benchmarks/`; needs no data beyond the package and the answers beside this file. The vectors are
extracted from written answers, read as the assistant's turn of the chat, and learned: by the
likelihood of these answers, then by that of the model's own in which the emotion is heard. What is
done is kept in ``--work``, and not done again: give another folder with other options. How the file
that ships differs from what this makes is said in emokernel/demo/assets/CARD.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel import EmotionVectors, patch
from emokernel.demo.models import load
from emokernel.extras import need
from emokernel.lab.calibrate import Prompts, calibrate
from emokernel.lab.extract.prompts import question
from emokernel.lab.learn import Likelihood, learn_vectors
from smollm2 import own_answers, texts
from smollm2.listener import Listener

OUT = Path("smollm2.safetensors")
# Every second layer of the middle; a fifth of the difference of means is where learning starts.
LAYERS, SHARE = tuple(range(6, 24, 2)), 0.2
# A step's texts; one of so many tokens was cut, as own answers are after 48.
BATCH, CUT = 38, 47
DATA = (
    "written answers to 40 queries, with each emotion and without, as the assistant's turn of the"
    " chat (benchmarks/smollm2/answers.json)"
)
Texts = Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True)
class Round:
    """Own answers, and what is learned of them; see `own_answers`.

    written: (seed, strength) of the answers. emotions: all unless given. again: those that see
    their written answers too.
    """

    written: tuple[tuple[int, float], ...]
    kept: int
    free: float
    cost: float
    steps: int
    emotions: tuple[str, ...] = ()
    again: tuple[str, ...] = ()


ROUNDS = (
    Round(((100, 0.9), (101, 0.6)), kept=50, free=1.5, cost=2.0, steps=40),
    Round(((102, 1.0), (103, 0.8)), kept=60, free=1.35, cost=2.5, steps=45, again=("anger",)),
    Round(
        ((104, 1.05), (105, 0.85)), kept=60, free=1.35, cost=2.0, steps=24, again=("anger",),
        emotions=("anger", "boredom", "tiredness", "calm", "caring", "optimism", "disgust"),
    ),
)  # fmt: skip


def extracted(model: PreTrainedModel, tokenizer: Tokenizer) -> EmotionVectors:
    """The difference of means, in the layers that are learned, as short as learning starts."""

    def turns(name: str) -> list[tuple[str, str]]:
        return [(question(query, tokenizer), text) for query, text in texts.written(name).items()]

    vectors = EmotionVectors.extract(
        model,
        tokenizer,
        {name: turns(name) for name in texts.emotions()},
        {name: turns(texts.NEUTRAL) for name in texts.emotions()},
        site="block",
        data=DATA,
        model_id="smollm2",
    )
    kept = torch.zeros_like(vectors.tensor)
    kept[list(LAYERS)] = SHARE * vectors.tensor[list(LAYERS)]
    return replace(vectors, tensor=kept, diagnostics={})


def learned(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    vectors: EmotionVectors,
    answers: Texts,
    steps: int,
    rate: float,
) -> EmotionVectors:
    """The vectors under which {emotion: (query, answer) pairs} are likelier, norms learned too."""
    steering = patch(model, vectors, law="preserve", dose="absolute", calibrated=False)
    turns = {
        name: [(question(query, tokenizer), text) for query, text in pairs]
        for name, pairs in answers.items()
    }
    loss = Likelihood(model, tokenizer, steering, turns, batch=BATCH, cut=CUT)
    found = learn_vectors(steering, list(turns), loss, steps=steps, rate=rate, keep_norms=False)
    steering.unpatch()
    return found


def from_own(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    vectors: EmotionVectors,
    what: Round,
    answers: Sequence[own_answers.Answer],
    written: Texts,
) -> EmotionVectors:
    """Learned from the best of the model's own ``answers``."""
    own_answers.listen(answers)
    chosen = own_answers.best(answers, what.kept, what.free, what.cost)
    chosen = {name: pairs for name, pairs in chosen.items() if name in (what.emotions or chosen)}
    for name in what.again:
        chosen[name] += written[name]
    return learned(model, tokenizer, vectors, chosen, steps=what.steps, rate=0.12)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work", type=Path, default=Path("smollm2-vectors"), help="folder of what is done"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--dtype", default="bfloat16", help="of the model (bfloat16)")
    arguments = parser.parse_args()
    need("sklearn")
    arguments.work.mkdir(parents=True, exist_ok=True)
    model, tokenizer = load("smollm2", dtype=arguments.dtype)
    # The fused attention's gradient takes longer than its plain form on a processor.
    model.set_attn_implementation("eager")

    def stage(name: str, make: Callable[[], EmotionVectors]) -> EmotionVectors:
        path = arguments.work / f"{name}.safetensors"
        if not path.exists():
            make().save(path)
        return EmotionVectors.load(path)

    written = {name: list(texts.written(name).items()) for name in texts.emotions()}
    some = {name: pairs[:34] for name, pairs in written.items()}
    vectors = stage("extracted", lambda: extracted(model, tokenizer))
    for name, answers, steps, rate in (("begun", some, 34, 0.15), ("written", written, 60, 0.3)):
        vectors = stage(
            name, partial(learned, model, tokenizer, vectors, answers, steps=steps, rate=rate)
        )
    last: list[own_answers.Answer] = []
    for number, each in enumerate(ROUNDS, 1):
        path = arguments.work / f"answers-{number}.jsonl"
        if not path.exists():
            emotions = each.emotions or vectors.names
            found = own_answers.pool(model, tokenizer, vectors, emotions, each.written)
            own_answers.save(path, found)
        found = own_answers.load(path)
        # Those of the round before are still good.
        vectors = stage(
            f"own-{number}",
            partial(from_own, model, tokenizer, vectors, each, [*found, *last], written),
        )
        last = found
    journal = arguments.work / "calibration.partial"
    result = calibrate(
        model,
        tokenizer,
        vectors,
        sites=("block",),
        doses=("absolute",),
        prompts=Prompts.of(tokenizer, texts.calibration_queries()),
        judge=Listener(),
        journal=journal,
    )
    result.vectors.save(arguments.out)
    journal.unlink()
    print(result.summary())


if __name__ == "__main__":
    main()
