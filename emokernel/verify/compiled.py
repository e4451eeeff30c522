"""The checks of torch.compile and of CUDA graphs: nothing is compiled or captured again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from transformers import StaticCache

from emokernel.bench.compiling import NO_GPU, CapturedCalls, obstacle
from emokernel.errors import EmokernelError
from emokernel.requests import Request
from emokernel.steering import Steering
from emokernel.verify.subject import Failed, NotRun, Subject

_STEPS = 3
# Relative error of the logits of a model of three layers: a compiler and a graph may use other
# products than eager steps.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
Step = Callable[[Tensor], Tensor]


class StaticSteps:
    """Decode steps in a static cache behind an eager prompt; always the same tokens."""

    def __init__(self, subject: Subject) -> None:
        self.model = subject.model
        length = min(map(len, subject.prompts))
        self.prompt = torch.tensor([ids[:length] for ids in subject.prompts])
        self.prompt = self.prompt.to(subject.model.device)
        self.cache = StaticCache(config=subject.model.config, max_cache_len=length + _STEPS)

    def eager(self, tokens: Tensor, model: Callable | None = None) -> Tensor:
        """Logits ``[batch, vocabulary]`` of the last of ``tokens``, of the model as it is."""
        model = self.model if model is None else model
        output = model(input_ids=tokens, past_key_values=self.cache, use_cache=True)
        return output.logits[:, -1]

    @torch.no_grad()
    def logits(self, step: Step) -> Tensor:
        """Logits ``[steps, batch, vocabulary]`` of ``step``, fp32, on the CPU."""
        self.cache.reset()
        self.eager(self.prompt)
        return torch.stack([step(self.prompt[:, n, None]).float().cpu() for n in range(_STEPS)])


def asks(
    subject: Subject, steering: Steering, length: int
) -> Iterator[tuple[str, AbstractContextManager]]:
    """What may change between steps: a name, and the context in which it is asked for."""
    names = subject.emotions(steering)
    first, other, batch = names[0], names[-1], len(subject.prompts)
    half = [first if row % 2 else None for row in range(batch)]
    each = [Request({first: 1.0 - 0.1 * row, other: 0.1 * row}) for row in range(batch)]
    generated = [Request(first, positions="generated")] * batch
    yield "an emotion", _set(steering, first)
    yield "another emotion", _set(steering, other)
    yield "another strength", _set(steering, first, 0.5)
    yield "a mix", _set(steering, {first: 0.5, other: 0.4} if first != other else {first: 0.7})
    yield "half of the batch", steering.requests(half)
    yield "a mix for each sequence", steering.requests(each)
    yield "generated tokens only", steering.requests(generated, prompt_lengths=[length] * batch)
    yield "one sequence", steering.requests([first, *[None] * (batch - 1)])
    yield "nothing", nullcontext()


@contextmanager
def _set(steering: Steering, *asked: object) -> Iterator[None]:
    steering.set(*asked)
    try:
        yield
    finally:
        steering.off()


def compiled(subject: Subject) -> str:
    """torch.compile(fullgraph=True): as many graphs as unpatched, whatever is asked for."""
    return _compiled(subject, backend=subject.compile_backend)


def _compiled(subject: Subject, **options: object) -> str:
    from torch._dynamo.utils import counters, get_compilation_metrics

    def compile_step(steps: StaticSteps) -> Step:
        model = torch.compile(subject.model, fullgraph=True, dynamic=False, **options)

        def step(tokens: Tensor) -> Tensor:
            torch.compiler.cudagraph_mark_step_begin()
            return steps.eager(tokens, model)

        return step

    def graphs() -> int:
        return counters["stats"]["unique_graphs"]

    subject.require_cache()
    torch.compiler.reset()
    try:
        steps, start = StaticSteps(subject), graphs()
        try:
            step = compile_step(steps)
            steps.logits(step)
            own = _apart(steps.logits(step), steps.logits(steps.eager))
        except Exception as error:  # whatever a model or a compiler raises
            reason = obstacle(error) or f"{type(error).__name__}: {_first_line(error)}"
            raise NotRun(f"the unpatched model does not compile here: {reason}") from error
        unpatched, start = graphs() - start, graphs()
        with subject.patched() as steering:
            changes, worst = _compare(subject, steering, steps, compile_step(steps))
        patched = graphs() - start
        if patched != unpatched:
            told = [entry.recompile_reason for entry in get_compilation_metrics()]
            why = next((reason for reason in reversed(told) if reason), "no reason told")
            why = why.strip().splitlines()[0]
            raise Failed(f"{patched} graphs, {unpatched} unpatched ({why})")
    finally:
        torch.compiler.reset()
    return (
        f"{patched} graph as unpatched, 0 breaks, 0 recompiles over {changes} changes; logits"
        f" within {worst:.1e} of eager (unpatched {own:.1e})"
    )


def _apart(logits: Tensor, eager: Tensor) -> float:
    return float((logits - eager).norm() / eager.norm())


def _compare(
    subject: Subject, steering: Steering, steps: StaticSteps, step: Step
) -> tuple[int, float]:
    """(How many things were asked for, the largest relative error against eager steps)."""
    limit = _TOLERANCE[subject.model.dtype] * subject.depth_factor
    worst, changes, seen = 0.0, 0, {}
    for name, context in asks(subject, steering, steps.prompt.shape[1]):
        with context:
            eager, logits = steps.logits(steps.eager), steps.logits(step)
        error = _apart(logits, eager)
        if not error <= limit:
            raise Failed(
                f"asked for {name}: logits {error:.1e} from the eager ones (limit {limit:.0e})"
            )
        worst, changes, seen[name] = max(worst, error), changes + 1, logits
    nothing = seen.pop("nothing")
    ignored = [name for name, logits in seen.items() if torch.equal(logits, nothing)]
    if ignored:
        raise Failed(f"not steered when asked for: {', '.join(ignored)}")
    return changes, worst


def cuda_graphs(subject: Subject) -> str:
    """reduce-overhead mode and a captured graph: the same graph, whatever is asked for."""
    if subject.model.device.type != "cuda":
        raise NotRun(NO_GPU)
    counts = _compiled(subject, mode="reduce-overhead")
    with subject.patched() as steering:
        steps = StaticSteps(subject)
        changes, worst = _compare(subject, steering, steps, _captured(subject, steps))
    return (
        f"reduce-overhead: {counts}; one captured graph replayed over {changes} changes, logits"
        f" within {worst:.1e} of eager"
    )


def _captured(subject: Subject, steps: StaticSteps) -> Step:
    device = subject.model.device
    tokens = torch.zeros(len(steps.prompt), 1, dtype=torch.long, device=device)
    with torch.no_grad():
        steps.cache.reset()
        steps.eager(steps.prompt[:, :1])
        graph = CapturedCalls([lambda: steps.eager(tokens)], torch.cuda.Stream(device))

    def step(given: Tensor) -> Tensor:
        tokens.copy_(given)
        graph.run()
        return graph.result

    return step


def _first_line(error: Exception) -> str:
    text = str(error)
    return text if isinstance(error, EmokernelError) else text.strip().partition("\n")[0]
