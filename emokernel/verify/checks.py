"""The checks that run the model eagerly. Each returns its numbers, or raises what is wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from emokernel.bench.cases import steered_layers
from emokernel.choices import LAW
from emokernel.reference import Law
from emokernel.replaced import has_replaced
from emokernel.steering import Steering
from emokernel.verify.law import Deviation, deviation, full_vector, recorded, sites
from emokernel.verify.subject import NEW_TOKENS, NO_CACHE, Failed, NotRun, Subject, differing

# How far fused norms may move the logits of a model of three layers, of the largest of them.
_FUSED = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
_LAYERS = 3  # at which the law is checked, of those that are steered
_SHIFTS = 4  # other tokens that neighbours are given, to see whether a model minds
_ORDER = ("prompt", "generated", "last", "all")


def structure(subject: Subject) -> str:
    """The model can be patched; which layers are fused, and which fell back and why."""
    with subject.patched() as steering:
        layers = steering.report().layers
        fused = sum(layer.norm is not None for layer in layers)
        reasons = sorted({layer.not_fused for layer in layers if layer.not_fused})
        summary = f"{len(layers)} layers steered, {fused} with a norm fused"
        return summary + (f"; the others: {'; '.join(reasons)}" if reasons else "")


def exactness(subject: Subject) -> str:
    """With nothing set and no norm fused: the bits of the unpatched model."""
    if not subject.repeats:
        raise NotRun("the unpatched model does not give the same bits twice")
    with subject.patched(fuse_norm=False) as steering:
        _require_same(subject, "with nothing set")
        with steering.requests([None] * len(subject.prompts)):
            _require_same(subject, "with requests that ask for nothing")
    left_out = "" if subject.keeps_cache else f"; left out: decoding in a cache ({NO_CACHE})"
    return f"{len(subject.before)} outputs bit-equal: {', '.join(subject.before)}{left_out}"


def _require_same(subject: Subject, when: str) -> None:
    differ = differing(subject.before, subject.outputs())
    if differ:
        raise Failed(f"{when}, not the bits of the unpatched model: {', '.join(differ)}")


def fused_norms(subject: Subject) -> str:
    """With nothing set and norms fused: the unpatched model up to the order of one sum per norm."""
    limit = _FUSED[subject.model.dtype] * subject.depth_factor
    with subject.patched():
        after = subject.outputs()
    errors = {}
    for name, before in subject.before.items():
        if before.is_floating_point() and name != "logits of generate":
            scale = before.float().abs().max()
            errors[name] = float((after[name].float() - before.float()).abs().max() / scale)
    worst = max(errors, key=errors.__getitem__)
    most = errors[worst]
    summary = f"logits off by at most {most:.1e} of the largest ({worst}; limit {limit:.0e})"
    if not most <= limit:
        raise Failed(summary)
    return f"{summary}; {_greedy(subject.before, after, limit)}"


def _greedy(before: dict[str, Tensor], after: dict[str, Tensor], limit: float) -> str:
    """The greedy tokens are equal, or part where two logits are closer than the tolerance."""
    tokens, others = before["generated tokens"], after["generated tokens"]
    ties = 0
    for row in range(len(tokens)):
        apart = (tokens[row] != others[row]).nonzero()
        if len(apart) == 0:
            continue
        step = int(apart[0])
        logits = before["logits of generate"][row, step].float()
        gap = logits[tokens[row, step]] - logits[others[row, step]]
        if gap > 2 * limit * logits.abs().max():
            raise Failed(f"another greedy token at step {step} of sequence {row}, and no tie")
        ties += 1
    return "greedy tokens equal" if not ties else f"greedy tokens equal but for {ties} ties"


def effect(subject: Subject) -> str:
    """With something set: rows move along the vector as far as the law says, and texts change."""
    with subject.patched() as steering:
        unsteered = subject.outputs()
        name = subject.emotions(steering, 1)[0]
        deviations = [
            kept for law in LAW if (kept := _law_kept(subject, steering, name, law)) is not None
        ]
        if not deviations:
            raise NotRun("these vectors have no strength for an absolute or relative dose")
        steering.set(name)
        steered = subject.outputs()
        untouched = [key for key in steered if torch.equal(steered[key], unsteered[key])]
        if set(untouched) - {"generated tokens"}:
            raise Failed(f"{name!r} changes nothing in: {', '.join(untouched)}")
        steering.off()
        differ = differing(unsteered, subject.outputs())
        if differ:
            raise Failed(f"after off() not the bits of before: {', '.join(differ)}")
    return f"{name!r}: {'; '.join(deviations)}; logits and generate change, off() restores the bits"


def _law_kept(subject: Subject, steering: Steering, name: str, law: str) -> str | None:
    """The deviations from a law; None if the vectors were not calibrated for it."""
    dose = steering.defaults.dose
    calibration = steering.calibration
    if calibration is not None and not calibration.strengths.get(f"{law} {dose}", {}).get(name):
        return None
    steering.set(name, law=law, dose=dose)
    with recorded(steering) as calls:
        subject.logits(subject.left, subject.left_mask)
    at = sites(calls)
    layers = [
        layer for layer in steered_layers(subject.vectors) if subject.vectors[name][layer].any()
    ]
    if len(at) != len(layers):
        raise Failed(f"{len(at)} sites steered rows, not one in each of {len(layers)} layers")
    step = max(1, len(layers) // _LAYERS)
    keeps_norm = LAW[law] is Law.PRESERVE
    worst: Deviation | None = None
    for layer, call in list(zip(layers, at, strict=True))[::step]:
        wanted = int(subject.left_mask.sum())
        if int(call.steered.sum()) != wanted:
            raise Failed(f"layer {layer}: {int(call.steered.sum())} rows steered, not {wanted}")
        vector = full_vector(steering, name, layer, law, dose, call.before.dtype)
        seen = deviation(call, vector, law, dose)
        if not seen.keeps_law:
            raise Failed(f"layer {layer}, law {law!r}: {seen}")
        if keeps_norm and not seen.keeps_norm:
            raise Failed(f"layer {layer}: {law} changes a row's norm by {seen.norm:.1e}")
        worst = seen if worst is None or seen.error > worst.error else worst
    norms = f", norms within {worst.norm:.0e}" if keeps_norm else ""
    return f"{law}: {worst}{norms}"


def independence(subject: Subject) -> str:
    """A sequence that asks for nothing has the same bits beside steered ones."""
    subject.require_cache()
    with subject.patched() as steering:
        names = subject.emotions(steering)
        batch = len(subject.prompts)
        half = [names[row % len(names)] if row % 2 == 0 else None for row in range(batch)]
        with steering.requests([None] * batch):
            alone = subject.decoded()
        with steering.requests(half), recorded(steering) as calls:
            mixed = subject.decoded()
        if torch.equal(mixed[0::2], alone[0::2]):
            raise Failed("the steered sequences of a mixed batch are not steered")
        for call in sites(calls):
            by_row = call.steered.view(batch, -1)
            if by_row[1::2].any():
                raise Failed("rows of a sequence that asks for nothing were changed")
        if torch.equal(mixed[1::2], alone[1::2]):
            return "unsteered sequences of a mixed batch bit-equal, prompt and decoding"
    if _minds_neighbours(subject):
        return (
            "unsteered rows bit-equal at every site; beyond, this model's own bits depend on the"
            " other sequences of a batch, unpatched too"
        )
    raise Failed("unsteered sequences have other bits beside steered ones")


def _minds_neighbours(subject: Subject) -> bool:
    """Whether the bits of a sequence of the unpatched model depend on the tokens of the others."""
    alone = subject.decoded()[1::2]
    vocabulary = subject.model.get_input_embeddings().weight.shape[0]
    for shift in range(1, 1 + _SHIFTS):
        ids = subject.left.clone()
        ids[0::2] = (ids[0::2] + shift) % vocabulary
        if not torch.equal(subject.decoded(ids)[1::2], alone):
            return True
    return False


def positions(subject: Subject) -> str:
    """Under generate, prompt, generated and last tokens are told apart."""
    counts = []
    with subject.patched() as steering:
        name = subject.emotions(steering, 1)[0]
        for kind in _ORDER:
            steering.set(name, positions=kind)
            with recorded(steering) as calls:
                subject.generated()
            ran = _first_site_calls(subject, calls)
            steered = 0
            for number, rows in enumerate(ran):
                wanted = _wanted(subject, kind, rows.shape[1], number)
                if not torch.equal(rows, wanted):
                    raise Failed(
                        f"{kind!r}, forward {number} of generate: {int(rows.sum())} rows steered,"
                        f" {int(wanted.sum())} expected"
                    )
                steered += int(rows.sum())
            counts.append(f"{kind} {steered}")
    return f"rows steered per layer while generating: {', '.join(counts)}"


def _first_site_calls(subject: Subject, calls: list) -> list[Tensor]:
    """Which rows each forward steered in the first steered layer, bool ``[batch, tokens]``."""
    if len(calls) % NEW_TOKENS:
        raise Failed(f"{len(calls)} calls of the kernels do not fit {NEW_TOKENS} forwards")
    each = len(calls) // NEW_TOKENS
    steered = []
    for start in range(0, len(calls), each):
        forward = calls[start : start + each]
        rows = next((call.steered for call in forward if call.steered.any()), forward[0].steered)
        steered.append(rows.view(len(subject.prompts), -1).cpu())
    return steered


def _wanted(subject: Subject, kind: str, tokens: int, number: int) -> Tensor:
    """What ``positions=kind`` means for the last ``tokens`` columns of forward ``number``."""
    width = subject.left.shape[1]
    end = width + number
    columns = torch.arange(end - tokens, end)
    given, last = columns < width, columns == width - 1
    chosen = {
        "all": torch.ones_like(given), "prompt": given, "generated": ~given, "last": ~given | last,
    }[kind]  # fmt: skip
    mask = torch.nn.functional.pad(subject.left_mask.cpu().bool(), (0, number), value=True)
    return mask[:, end - tokens : end] & chosen


def restored(subject: Subject) -> str:
    """After `unpatch`: the bits, the state_dict and the methods of before."""
    before = {name: tensor.data_ptr() for name, tensor in subject.model.state_dict().items()}
    with subject.patched() as steering:
        steering.set(subject.emotions(steering, 1)[0])
        if list(subject.model.state_dict()) != subject.keys:
            raise Failed("the patched model has other keys in its state_dict")
        subject.logits(subject.left, subject.left_mask)
    after = {name: tensor.data_ptr() for name, tensor in subject.model.state_dict().items()}
    if after != before:
        raise Failed("the state_dict is not what it was")
    left = [type(module).__name__ for module in subject.model.modules() if has_replaced(module)]
    if left:
        raise Failed(f"still patched: {', '.join(left)}")
    if subject.repeats:
        _require_same(subject, "after unpatch()")
        return "bits, state_dict and methods are those of before"
    return "state_dict and methods are those of before (the model does not repeat its own bits)"
