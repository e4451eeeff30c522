"""The embedded model in an evaluation: how it is sampled, and what has to be said of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emokernel.affect import Coordinates
from emokernel.choices import LAW
from emokernel.demo.clean import is_presentable
from emokernel.demo.model import load_model
from emokernel.lab.evaluate.evaluation import evaluate
from emokernel.lab.evaluate.plan import Settings
from emokernel.lab.evaluate.prompting import prompting
from emokernel.lab.evaluate.results import Results
from emokernel.lab.judges import load_classifier
from emokernel.lab.measure.sampling import Sampling
from emokernel.vectors import EmotionVectors

NAME = "the embedded model of emokernel"
SAMPLING = Sampling(max_new_tokens=28, temperature=0.8, top_p=0.9)
NOTES = (
    "The embedded model follows no instructions. Prefix tokens, on which it was trained, stand for"
    " prompts, and openings that it continues for questions; a state is asked for by the prefix of"
    " the nearest emotion, at full intensity only.",
    "Texts that hold a word of a list of unpresentable ones are drawn again.",
)
INDEPENDENT = (
    "The main judge was trained on text that neither the model, its vectors nor the choice of their"
    " strengths has seen."
)


def short_evaluation(
    folder: Path, vectors: EmotionVectors, openings: Sequence[str], seeds: int
) -> Results:
    """The evaluation at full strength and intensity alone, under the vectors' own law."""
    model, tokenizer = load_model()
    calibration = vectors.calibration
    settings = Settings(
        openings=len(openings),
        seeds=seeds,
        intensities=(1.0,),
        strengths=(1.0,),
        doses=(),
        laws=(calibration.law if calibration else LAW.default,),
        sampling=SAMPLING,
    )
    return evaluate(
        model,
        tokenizer,
        vectors,
        prompting(
            tokenizer,
            embedded=True,
            openings=openings,
            coordinates=Coordinates.named("russell"),
        ),
        folder,
        judge=load_classifier("embedded-evaluation"),
        second=load_classifier("embedded-calibration"),
        settings=settings,
        accept=is_presentable,
        model_facts={"name": NAME, "parameters": model.num_parameters()},
        notes=(*NOTES, INDEPENDENT),
        restart=True,
    )
