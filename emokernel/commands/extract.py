"""`emokernel extract`: emotion vectors of a model, from its own answers or from given texts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from emokernel.commands import extract_sources as sources
from emokernel.commands import models, outputs
from emokernel.commands.arguments import add_model, positive, resumable
from emokernel.commands.show import table
from emokernel.errors import EmokernelError, ranges
from emokernel.lab.extract import Options, Sampling, extract, extract_answers
from emokernel.lab.extract.answers import prompts_of
from emokernel.lab.extract.datasets import HUB
from emokernel.lab.extract.provenance import describe_answers, settings_of
from emokernel.lab.extract.store import remove
from emokernel.vectors import EmotionVectors
from emokernel.weights import identity

_WEAK = 0.7  # AUC against the other emotions in the best layer; 0.5 is chance


def add(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    data = parser.add_argument_group("what the model is asked, or reads")
    read = data.add_mutually_exclusive_group()
    read.add_argument(
        "--queries", metavar="SOURCE",
        help='"shipped", "openings" (for base models), a JSON, JSONL or TSV file, or'
        f" {HUB}REPOSITORY, a data set of the Hub (shipped; of the embedded model, openings)",
    )  # fmt: skip
    read.add_argument(
        "--texts", metavar="SOURCE",
        help=f"labelled texts to read instead of own answers: a file or {HUB}REPOSITORY, with"
        " neutral ones, or behind --conditioning's contexts",
    )  # fmt: skip
    data.add_argument("--split", help="of the data set (train)")
    data.add_argument("--text-column", help="column of the texts, if it is not called as usual")
    data.add_argument("--label-column", help="column of the emotions")
    data.add_argument(
        "--label-names",
        help="emotions of labels that are numbers: joy,anger,... or a file with one on each line",
    )
    data.add_argument("--rows", help="emotions of a flat JSON list: joy=0:50,anger=50:100,...")
    data.add_argument("--emotions", help='joy,anger,... or "all", those of the source (all)')
    data.add_argument("--per-emotion", type=positive, help="the most queries or texts of each")
    asking = parser.add_argument_group("how it is asked")
    asking.add_argument(
        "--conditioning", choices=("chat", "plain", "prefix"),
        help="chat template, framing in plain text, or templates of your own (chat; of the embedded"
        " model, its prefixes)",
    )  # fmt: skip
    asking.add_argument("--emotional-template", help='with {emotion}, and {query} unless "chat"')
    asking.add_argument("--neutral-template", help='with {query} unless "chat"')
    asking.add_argument("--max-new-tokens", type=positive, default=64, help="of an answer (64)")
    asking.add_argument("--temperature", type=float, default=0.8, help="of sampling (0.8)")
    asking.add_argument("--top-p", type=float, default=0.9, help="of sampling (0.9)")
    making = parser.add_argument_group("how vectors are made of it")
    making.add_argument("--site", default="attention", help="attention (default) or block")
    making.add_argument("--tokens", default="each", help="mean, last or each (default)")
    making.add_argument("--method", default="mean", help="mean (default), pca or probe")
    making.add_argument(
        "--remove-neutral", type=float, default=0.0, metavar="SHARE",
        help="project out the components that hold this share of the neutral variance (0)",
    )  # fmt: skip
    making.add_argument(
        "--remove-base", type=float, default=0.0, metavar="SHARE",
        help="subtract this share of the mean over emotions (0)",
    )  # fmt: skip
    making.add_argument("--layers", help="such as 3-8,10 (all)")
    making.add_argument("--heldout", type=float, default=0.2, help="share for diagnostics (0.2)")
    making.add_argument("--seed", type=int, default=0, help="of answers and held-out text (0)")
    running = parser.add_argument_group("how it runs")
    running.add_argument("--batch-tokens", type=positive, default=4096, help="at once (4096)")
    running.add_argument("--batch-size", type=positive, help="the most texts at once")
    running.add_argument("--restart", action="store_true", help="forget an interrupted run")
    running.add_argument("--keep", action="store_true", help="keep FILE.partial when done")
    outputs.add_plot(running)


def run(chosen: argparse.Namespace) -> None:
    """Extract, save, and print what the vectors are worth.

    What was computed is kept in FILE.partial until the vectors are saved.
    """
    output, plot = chosen.output, chosen.plot
    outputs.check_file(output)
    outputs.check_plot(plot)
    if plot is not None and plot.absolute() == output.absolute():
        raise EmokernelError(f"--plot and --output are both {plot}: name another file")
    kept = output.with_name(output.name + ".partial")
    outputs.check_folder(kept)
    extraction = _prepared(chosen, kept)
    with resumable(kept):
        vectors = extraction()
    output.parent.mkdir(parents=True, exist_ok=True)
    vectors.save(output)
    if not chosen.keep:
        remove(kept)
    print(*_summary(vectors), *_advice(vectors), f"wrote {output}", sep="\n")
    outputs.plot(vectors, plot)
    then = f"emokernel calibrate {chosen.model} --vectors {output}"
    print(f"next: `{then}` finds how to steer by them")


def _prepared(chosen: argparse.Namespace, kept: Path) -> Callable[[], EmotionVectors]:
    """The extraction, its model loaded; what is wrong with it is told before that."""
    names = [name for name in Options.__dataclass_fields__ if hasattr(chosen, name)]
    given = {name: getattr(chosen, name) for name in names} | {"layers": _layers(chosen.layers)}
    options = Options(**given)
    sampling = Sampling(chosen.max_new_tokens, chosen.temperature, chosen.top_p)
    options.check_packages()
    if chosen.texts:
        texts = sources.labelled_of(chosen, chosen.texts)
        for line in sources.left_out(texts):
            print(line)
    else:
        queries, conditioning = sources.queries_of(chosen), sources.conditioning_of(chosen)
        asked = sources.asked_of(chosen, queries)
    config = models.load_config(chosen)
    options.layers_of(config.get_text_config().num_hidden_layers)
    tokenizer = models.load_tokenizer(chosen)
    if chosen.texts:
        emotional, neutral = sources.texts_of(chosen, texts, tokenizer)
        data = dict(texts.provenance)
        emotions = list(emotional)
        making = partial(
            extract, tokenizer=tokenizer, emotional=emotional, neutral=neutral, data=data
        )
    else:
        first = {emotion: of_it[:1] for emotion, of_it in asked.items()}
        prompts_of(tokenizer, first, conditioning)
        data = describe_answers(queries, conditioning, sampling)
        emotions = list(asked)
        making = partial(
            extract_answers, tokenizer=tokenizer, queries=queries, conditioning=conditioning,
            emotions=emotions, per_emotion=chosen.per_emotion, sampling=sampling,
        )  # fmt: skip
    options.check_emotions(emotions)
    outputs.check_vectors_file(chosen.output, emotions)
    settings = settings_of(options, {"model": {"model": identity(chosen.model)}, "data": data})
    outputs.check_run(kept / "journal.jsonl", settings, chosen)
    return partial(
        making, models.load_weights(chosen, config), model_id=chosen.model,
        revision=chosen.revision, resume=kept, restart=chosen.restart, **given,
    )  # fmt: skip


def _layers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    layers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        ends = [first, last] if dash else [first, first]
        if not all(end.strip().isdecimal() for end in ends) or int(ends[0]) > int(ends[1]):
            raise EmokernelError(f"layers are numbers such as 3-8,10, got {text!r}")
        layers.extend(range(int(ends[0]), int(ends[1]) + 1))
    return layers


def _summary(vectors: EmotionVectors) -> Iterator[str]:
    rows = {}
    for number, name in enumerate(vectors.names):
        figures = {
            layer: [
                vectors.diagnostics[key][layer][number]
                for key in ("auc_neutral", "auc_others", "relative_norm")
            ]
            for layer in vectors.layers
        }
        best = max(figures, key=lambda layer: sum(auc or 0.0 for auc in figures[layer][:2]))
        rows[name] = [best, *figures[best], vectors.diagnostics["heldout_texts"][name]]
    title = "AUC on held-out text and length relative to rows, where the emotion is read best"
    columns = ("best layer", "AUC neutral", "AUC others", "length", "held-out texts")
    return table(title, "emotion", columns, rows, longest=24)


def _advice(vectors: EmotionVectors) -> Iterator[str]:
    """What to make of the figures."""
    empty = sum(vectors.provenance["data"].get("empty_pairs", {}).values())
    if empty:
        yield f"{empty} pairs were dropped, in which the model answered nothing"
    auc = vectors.diagnostics["auc_others"]
    weak = [
        name
        for number, name in enumerate(vectors.names)
        if (known := [auc[layer][number] for layer in vectors.layers if auc[layer][number]])
        and max(known) < _WEAK
    ]
    if weak:
        yield f"hardly told from the other emotions (AUC below {_WEAK}): {', '.join(weak)}"
        yield (
            "  (small models often do not answer as they are asked to; labelled texts, --texts, do"
            " not depend on that)"
            if "sampling" in vectors.provenance["data"]
            else "  (more texts, or texts that show it more clearly, may help)"
        )
    weights = vectors.diagnostics["suggested_profile"] or []
    best = sorted(range(len(weights)), key=lambda layer: -weights[layer])
    best = sorted(layer for layer in best[: -(-len(best) // 3)] if weights[layer])
    if best:
        yield f"emotions are read best in layers {ranges(best)} (suggested_profile)"
