"""Python's short way to an operation: modes and wrapped tensors see each call as ever."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from enum import IntEnum

import numpy as np
import pytest
import torch
from row_cases import EPS, Case, exactly, make
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from emokernel import _build_info
from emokernel.ops import direct, registered
from emokernel.ops.cpu import BACKEND
from emokernel.ops.schemas import IN_PLACE, NAMESPACE, OPERATIONS

OPS = getattr(torch.ops, NAMESPACE)
PLAIN = OPS.add_steer_rms_norm.default


def arguments(name: str, case: Case) -> tuple:
    """Of a good call; what is worked on in place is a copy."""
    values = {**vars(case), "h": case.x, "eps": EPS, "cast": 0}
    if name == IN_PLACE:
        values |= {"y": case.x + case.residual, "normed": case.x.clone()}
    return tuple(values[a.name] for a in getattr(OPS, name).default._schema.arguments)


def flat(results: object) -> list[Tensor]:
    return [results] if isinstance(results, Tensor) else list(results or ())


@pytest.fixture
def case() -> Case:
    return make(5, 12)


@pytest.fixture
def not_taken(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """The function of the backend as it is where there is no short way."""
    with monkeypatch.context() as changed:
        changed.setattr(direct, "_DIRECT", None)
        backend = registered.registered_backend("cpu", ("cpu",), lambda: None, NAMESPACE)
    return lambda name: getattr(backend, name)


def taken(name: str) -> bool:
    """Whether a call of this operation with tensors alone takes the short way."""
    seen = []
    quick = direct.direct(getattr(OPS, name).default, lambda *given: seen.append(given))
    quick(*arguments(name, make(2, 3)))
    return not seen


@pytest.mark.parametrize("name", OPERATIONS)
def test_it_is_taken_and_gives_the_same(name: str, case: Case, not_taken: Callable) -> None:
    assert direct.REASON is None
    assert taken(name)
    mine, theirs = arguments(name, case), arguments(name, case)
    results = flat(getattr(BACKEND, name)(*mine))
    expected = flat(not_taken(name)(*theirs))
    changed = 2 if name == IN_PLACE else 0
    results, expected = [*results, *mine[:changed]], [*expected, *theirs[:changed]]
    assert results
    assert len(results) == len(expected)
    assert all(exactly(*pair) for pair in zip(results, expected, strict=True))
    assert type(getattr(BACKEND, name)(*mine)) is type(not_taken(name)(*theirs))


def test_parameters_are_plain(case: Case) -> None:
    seen = []
    quick = direct.direct(PLAIN, lambda *given: seen.append(given))
    x, residual, weight, *rest = arguments("add_steer_rms_norm", case)
    quick(x, residual, nn.Parameter(weight, requires_grad=False), *rest)
    assert not seen
    with torch.no_grad():
        quick(x, residual, nn.Parameter(weight), *rest)
    assert not seen
    quick(x, residual, nn.Parameter(weight), *rest)
    assert len(seen) == 1, "it requires a gradient in grad mode"


@pytest.mark.parametrize("name", OPERATIONS)
def test_derivatives_are_refused(name: str, case: Case) -> None:
    """Without a mode, under which all calls go the long way, such as that of a default device."""
    first, *others = arguments(name, case)
    with pytest.raises(RuntimeError, match="the cpu backend has no gradient"):
        getattr(BACKEND, name)(first.clone().requires_grad_(), *others)
    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.make_dual(first, torch.ones_like(first))
        with pytest.raises(RuntimeError, match="the cpu backend has no forward-mode derivative"):
            getattr(BACKEND, name)(dual, *others)


class Wide(IntEnum):
    LLAMA = 0


@pytest.mark.parametrize("place", [3, 4])
@pytest.mark.parametrize("value", [0, True, Wide.LLAMA, 1e-6, np.float64(1e-6), 2**70, "x", None])
def test_other_numbers_go_the_long_way(
    case: Case, not_taken: Callable, place: int, value: object
) -> None:
    """What the parser makes of them, or says of them."""
    given = list(arguments("add_steer_rms_norm", case))
    given[place] = value
    told = []
    for function in (BACKEND.add_steer_rms_norm, not_taken("add_steer_rms_norm")):
        try:
            told.append([each.tolist() for each in function(*given)])
        except (RuntimeError, TypeError) as error:
            told.append(f"{type(error)}: {error}")
    assert told[0] == told[1]


@pytest.mark.parametrize("change", [
    lambda g: g[:-1],
    lambda g: (*g, g[-1]),
    lambda g: (g[0].double(), *g[1:]),
    lambda g: (g[0], g[1][:, :5], *g[2:]),
    lambda g: (*g[:3], -1.0, *g[4:]),
    lambda g: (g[0].to_sparse(), *g[1:]),
    lambda g: (*g[:5], g[5].to_mkldnn(), *g[6:]),
    lambda g: (*g[:9], g[9].to_sparse()),
    lambda g: (g[0].tolist(), *g[1:]),
])  # fmt: skip
def test_errors_are_the_same(case: Case, not_taken: Callable, change: Callable) -> None:
    given = change(arguments("add_steer_rms_norm", case))
    told = []
    for function in (BACKEND.add_steer_rms_norm, not_taken("add_steer_rms_norm")):
        with pytest.raises((RuntimeError, NotImplementedError, TypeError)) as caught:
            function(*given)
        told.append((caught.type, str(caught.value)))
    assert told[0] == told[1]


@pytest.mark.parametrize("layout", [Tensor.to_sparse, Tensor.to_sparse_csr, Tensor.to_mkldnn])
def test_no_argument_but_a_dense_one_reaches_a_kernel(case: Case, layout: Callable) -> None:
    """The binding relies on it: it does not ask for layouts."""
    given = arguments("add_steer_rms_norm", case)
    for i, each in enumerate(given):
        fits = isinstance(each, Tensor) and (layout is Tensor.to_sparse or each.dim() == 2)
        if fits and (each.is_floating_point() or layout is not Tensor.to_mkldnn):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # sparse tensors of rows are in beta
                other = layout(each)
            with pytest.raises(NotImplementedError, match="Could not run"):
                PLAIN(*given[:i], other, *given[i + 1 :])


def test_function_modes_see_the_call(case: Case) -> None:
    seen = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Watch():
        BACKEND.add_steer_rms_norm(*arguments("add_steer_rms_norm", case))
    assert PLAIN in seen


@pytest.mark.parametrize("place", [0, 2, 5, 9])
def test_subclasses_see_the_call(case: Case, place: int) -> None:
    seen = []

    class Watched(Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    given = list(arguments("add_steer_rms_norm", case))
    given[place] = given[place].as_subclass(Watched)
    normed, y = BACKEND.add_steer_rms_norm(*given)
    assert PLAIN in seen
    assert type(normed) is type(y) is Watched


@pytest.mark.parametrize("name", OPERATIONS)
def test_dispatch_modes_see_the_call(case: Case, name: str) -> None:
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append((func, args))
            return func(*args, **(kwargs or {}))

    given = arguments(name, case)
    with Watch():
        getattr(BACKEND, name)(*given)
    found = [args for func, args in seen if func is getattr(OPS, name).default]
    assert len(found) == 1
    assert all(a is b or a == b for a, b in zip(found[0], given, strict=True))


def test_errors_of_python_come_through(case: Case) -> None:
    class Refuses(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            raise LookupError("of a mode")

    with Refuses(), pytest.raises(LookupError, match="of a mode"):
        BACKEND.add_steer_rms_norm(*arguments("add_steer_rms_norm", case))


def test_fake_tensors(case: Case) -> None:
    given = arguments("add_steer_rms_norm", case)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        normed, y = BACKEND.add_steer_rms_norm(*given)
    assert normed.fake_mode is y.fake_mode is mode
    fakes = [mode.from_tensor(g) if isinstance(g, Tensor) else g for g in given]
    normed, y = BACKEND.add_steer_rms_norm(*fakes)
    assert normed.fake_mode is mode
    assert y.shape == case.x.shape
    meta = [g.to("meta") if isinstance(g, Tensor) else g for g in given]
    assert all(result.is_meta for result in BACKEND.add_steer_rms_norm(*meta))


def test_tracers_record_the_call(case: Case) -> None:
    given = arguments("add_steer_rms_norm", case)
    expected = BACKEND.add_steer_rms_norm(*given)

    def rows(x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return BACKEND.add_steer_rms_norm(x, residual, *given[2:])

    traced = make_fx(rows)(*given[:2])
    symbolic = torch.fx.symbolic_trace(rows)
    for graph in (traced.graph, symbolic.graph):
        assert PLAIN in [node.target for node in graph.nodes], graph
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        scripted = torch.jit.trace(rows, given[:2])
    assert "emokernel::add_steer_rms_norm" in str(scripted.graph)
    for function in (traced, symbolic, scripted):
        assert all(exactly(*pair) for pair in zip(function(*given[:2]), expected, strict=True))


def test_wrapped_tensors_are_unwrapped(case: Case) -> None:
    """Of exact type, they tell what they are to the dispatcher alone."""
    given = arguments("add_steer_rms_norm", case)
    negative = BACKEND.add_steer_rms_norm(torch._neg_view(given[0]), *given[1:])
    expected = BACKEND.add_steer_rms_norm(-given[0], *given[1:])
    assert all(exactly(*pair) for pair in zip(negative, expected, strict=True))

    called = torch.func.functionalize(BACKEND.add_steer_rms_norm)(*given)
    plain = BACKEND.add_steer_rms_norm(*given)
    assert all(exactly(*pair) for pair in zip(called, plain, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch goes through the batch
        each = torch.func.vmap(lambda x: BACKEND.steer(x, *case.tables))(case.x[:, None])
    alone = [BACKEND.steer(row[None], *case.tables) for row in case.x]
    assert exactly(each, torch.stack(alone))


def test_the_profiler_sees_the_call(case: Case) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        BACKEND.add_steer_rms_norm(*arguments("add_steer_rms_norm", case))
    assert "emokernel::add_steer_rms_norm" in [event.name for event in profile.events()]


def test_what_is_changed_in_place_is_told_to_autograd(case: Case) -> None:
    given = arguments(IN_PLACE, case)
    tensors = [each for each in given if isinstance(each, Tensor)]
    before = [each._version for each in tensors]
    BACKEND.steer_rms_norm_(*given)
    counts = [each._version - count for each, count in zip(tensors, before, strict=True)]
    assert counts == [1, 1] + [0] * len(counts[2:])
    with torch.inference_mode():
        uncounted = arguments(IN_PLACE, case)
        BACKEND.steer_rms_norm_(*uncounted)
    BACKEND.steer_rms_norm_(*uncounted)


def test_others_run_during_a_long_call() -> None:
    """A short one keeps the interpreter, which goes round every few milliseconds at most."""
    case, ticks, stop = make(4096, 1024), [], threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0)

    def ran_during(count: int) -> bool:
        start = time.perf_counter()
        BACKEND.add_steer(*arguments("add_steer", case.rows(slice(count))))
        end = time.perf_counter()
        # The second half may be the other thread's turn behind the call.
        return any(start < each < (start + end) / 2 for each in list(ticks))

    other = threading.Thread(target=tick)
    other.start()
    try:
        assert any(ran_during(4096) for _ in range(20))
    finally:
        stop.set()
        other.join()


@pytest.mark.parametrize("other", ["__version__", "git_version"])
def test_another_torch_goes_the_long_way(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    monkeypatch.setattr(torch if other == "__version__" else torch.version, other, "2.99")
    assert direct._load()[0] is None
    assert f"built with torch {_build_info.torch_built_with}, this is" in direct._load()[1]
