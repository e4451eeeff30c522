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
from emokernel.verify.compilations import Compilations, counted_compilations
from emokernel.verify.finding import Failed, NotRun
from emokernel.verify.subject import Subject

_STEPS = 3
# Relative error of logits: a compiler and a graph may use other products than eager steps.
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

    def run(self, model: Callable, tokens: Tensor) -> Tensor:
        """Logits ``[batch, vocabulary]`` of the last of ``tokens``."""
        output = model(input_ids=tokens, past_key_values=self.cache, use_cache=True)
        return output.logits[:, -1]

    def eager(self, tokens: Tensor) -> Tensor:
        """One step of the model as it is."""
        return self.run(self.model, tokens)

    @torch.no_grad()
    def logits(self, step: Step) -> Tensor:
        """Logits ``[steps, batch, vocabulary]`` of ``step``, fp32, on the CPU."""
        self.cache.reset()
        self.eager(self.prompt)
        logits = []
        for number in range(_STEPS):
            logits.append(step(self.prompt[:, number, None]).float().cpu())
        return torch.stack(logits)


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
    def compile_step(steps: StaticSteps) -> Step:
        model = torch.compile(subject.model, fullgraph=True, dynamic=False, **options)

        def step(tokens: Tensor) -> Tensor:
            torch.compiler.cudagraph_mark_step_begin()
            return steps.run(model, tokens)

        return step

    subject.require_cache()
    torch.compiler.reset()
    try:
        steps = StaticSteps(subject)
        try:
            with counted_compilations() as unpatched:
                step = compile_step(steps)
                for _ in range(2):
                    steps.logits(step)
        except Exception as error:  # whatever a model or a compiler raises
            reason = obstacle(error) or f"{type(error).__name__}: {_first_line(error)}"
            raise NotRun(f"the unpatched model does not compile here: {reason}") from error
        with subject.patched() as steering, counted_compilations() as patched:
            changes, worst = _compare(subject, steering, steps, compile_step(steps))
    finally:
        torch.compiler.reset()
    _require_as_many(unpatched, patched)
    return (
        f"{patched.graphs} graph as unpatched, 0 breaks, 0 recompiles over {changes} changes;"
        f" logits within {worst:.1e} of eager"
    )


def _require_as_many(unpatched: Compilations, patched: Compilations) -> None:
    if patched.breaks:
        raise Failed(f"{len(patched.breaks)} graph breaks: {patched.breaks[0].splitlines()[0]}")
    if patched.graphs != unpatched.graphs:
        why = next(iter(patched.recompiles[1:]), "no reason told").strip().splitlines()[0]
        raise Failed(f"{patched.graphs} graphs, {unpatched.graphs} unpatched ({why})")


def _compare(
    subject: Subject, steering: Steering, steps: StaticSteps, step: Step
) -> tuple[int, float]:
    """(How many things were asked for, the largest relative error against eager steps)."""
    worst, changes, seen = 0.0, 0, {}
    for name, context in asks(subject, steering, steps.prompt.shape[1]):
        with context:
            eager, logits = steps.logits(steps.eager), steps.logits(step)
        error = float((logits - eager).norm() / eager.norm())
        if not error <= _TOLERANCE[subject.dtype]:
            raise Failed(f"asked for {name}: logits {error:.1e} from the eager ones")
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
        step = _captured(subject, steps)
        changes, worst = _compare(subject, steering, steps, step)
    return (
        f"reduce-overhead: {counts}; one captured graph replayed over {changes} changes, logits"
        f" within {worst:.1e} of eager"
    )


def _captured(subject: Subject, steps: StaticSteps) -> Step:
    """A step as a CUDA graph of fixed inputs."""
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
    if isinstance(error, EmokernelError):
        return str(error)
    return str(error).strip().partition("\n")[0]
