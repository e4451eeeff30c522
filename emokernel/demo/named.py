"""The models with a name, and what belongs to each: the one place that knows the names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from emokernel.demo import model as embedded
from emokernel.demo import wordlist
from emokernel.demo.vectors import SMOLLM2_PATH, VECTORS_PATH
from emokernel.lab.evaluate.prompting.prompts import CHAT, Prompting
from emokernel.lab.evaluate.settings import LAPTOP, WHOLE, Settings
from emokernel.lab.judges import EVALUATING, TRANSFORMER
from emokernel.lab.measure.conditions import CONDITIONS
from emokernel.lab.measure.sampling import Sampling
from emokernel.lab.measure.sentences import ENCODER
from emokernel.vectors import EmotionVectors
from emokernel.weights import KNOWN, fetched

EMBEDDED, SMOLLM2 = "embedded", "smollm2"
# The MODEL of commands that can do without one, and of the demo.
DEFAULT, SHOWN = EMBEDDED, SMOLLM2
CALIBRATING = "embedded-calibration"
# What a model without vectors needs, for an error.
MAKE_VECTORS = (
    "`emokernel extract {0} -o FILE.safetensors` makes them, `emokernel calibrate {0} --vectors"
    " FILE.safetensors` says what strength 1.0 is to mean"
)

# None of those that vectors were learned or calibrated with.
QUESTION = "How was the party last night?"
# As much as four minutes allow, and nothing that the demo does not show.
_SHORT = Settings(
    openings=7,
    seeds=3,
    intensities=(1.0,),
    strengths=(0.25, 0.5, 0.75, 1.0),
    doses=(),
    laws=(),
    graded=1,
    templates=(),
    reread=False,
    sampling=Sampling(36),
    batch_size=128,
)


@dataclass(frozen=True)
class Demo:
    """What the demo asks a model and how much of it is measured.

    ``question``: of its first batch; one that suits any model unless given. In it so many
    ``emotions`` of the vectors are, at ``strength``. ``settings``: of the texts that are measured.
    ``rounds``: of the timing.
    """

    question: str | None = None
    emotions: int = 8
    strength: float = 1.0
    settings: Settings = _SHORT
    rounds: int = 12

    def question_of(self, asked: Prompting) -> str:
        """What is asked in the first batch, or continued by a model that is not for chats."""
        return self.question or (QUESTION if asked.kind == CHAT else asked.queries[0])


@dataclass(frozen=True)
class NamedModel:
    """What belongs to a MODEL; the defaults hold for any that has no name.

    ``find``: gives its folder, fetched if need be. ``title``: what reports call it. ``vectors``:
    the file of vectors that ships. ``dtype``: of the weights where none is asked for.
    ``on_cpu``: whether it writes texts there even if there is a GPU. ``judge`` and
    ``second_judge`` read the texts of an evaluation, ``sentences``, weights of an encoder, how far
    they keep to the topic; ``calibrating`` reads those of a calibration. ``evaluation``: how much
    one writes. ``demo``: what is shown of it. ``queries``: what `extract` asks it, ``emotions`` of
    which if the queries name none, and ``templates`` by which prefixes (emotional, neutral); in its
    chat without them. ``prefixes``: whether prefix tokens stand for prompts. ``notes``: what a
    report has to say of it, and ``own_notes`` besides, beside its own vectors and judge alone.
    ``accept``: which texts of it may be shown; others are drawn again.
    """

    find: Callable[[], Path] | None = None
    title: str | None = None
    vectors: Path | None = None
    dtype: str = "auto"
    on_cpu: bool = False
    judge: str = EVALUATING
    second_judge: str = CALIBRATING
    sentences: str | None = None
    calibrating: str = CALIBRATING
    evaluation: Settings = LAPTOP
    demo: Demo = Demo()
    queries: str = "shipped"
    emotions: tuple[str, ...] = ()
    templates: tuple[str, str] | None = None
    prefixes: bool = False
    notes: tuple[str, ...] = ()
    own_notes: tuple[str, ...] = ()
    accept: Callable[[str], bool] = lambda _: True

    def load_vectors(self) -> EmotionVectors | None:
        """Those that ship, if any do."""
        return None if self.vectors is None else EmotionVectors.load(self.vectors)


NAMED: dict[str, NamedModel] = {
    EMBEDDED: NamedModel(
        find=embedded.model_folder,
        title=embedded.NAME,
        vectors=VECTORS_PATH,
        dtype="float32",
        on_cpu=True,
        evaluation=replace(WHOLE, sampling=embedded.SAMPLING),
        demo=Demo(
            question="When we got home,",
            settings=replace(_SHORT, openings=60, sampling=embedded.SAMPLING),
            rounds=60,
        ),
        queries="openings",
        emotions=CONDITIONS[1:],
        templates=("<|{emotion}|>{query}", "<|neutral|>{query}"),
        prefixes=True,
        notes=embedded.NOTES,
        own_notes=(embedded.INDEPENDENT,),
        accept=wordlist.is_presentable,
    ),
    SMOLLM2: NamedModel(
        find=partial(fetched, SMOLLM2),
        title=KNOWN[SMOLLM2].title,
        vectors=SMOLLM2_PATH,
        dtype="float32",
        judge=TRANSFORMER,
        sentences=ENCODER,
        notes=(
            "The weights are what the 4-bit blocks (Q4_1) of a GGUF file of SmolLM2-135M-Instruct"
            " stand for.",
            wordlist.NOTE,
        ),
        own_notes=(
            f"The judge {CALIBRATING} is half of the listener that chose the strengths of these"
            " vectors, so it is no witness for them.",
        ),
        # Moods that can be told at a glance, at twice the perplexity and still fluent.
        demo=Demo(strength=1.5),
        accept=wordlist.is_presentable,
    ),
}
# Those with vectors that ship.
WITH_VECTORS = ", ".join(name for name, each in NAMED.items() if each.vectors)
_ANY = NamedModel()


def named(model: str) -> NamedModel:
    """What belongs to a MODEL: to one of `NAMED`, or to any other."""
    return NAMED.get(model, _ANY)
