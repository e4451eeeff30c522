"""What stands around vLLM's methods: once, everywhere, and nothing where nothing was asked."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from emokernel.engines.vllm import hooks
from emokernel.engines.vllm.asked import ASKING, KEY, KINDS, held
from emokernel.engines.vllm.hooks import around_function, around_method
from emokernel.errors import SteeringError
from emokernel.state import Asked, Mix

JOY = Mix(((0, 1.0),))


class Doubled:
    def value(self, number, *, more=0):
        """Its own words."""
        return 2 * number + more


def plus_one(original, *args, **kwargs):
    return original(*args, **kwargs) + 1


def test_a_method_is_surrounded_once():
    owner = type("Owner", (Doubled,), dict(vars(Doubled)))
    original = vars(owner)["value"]
    for _ in range(3):
        around_method(owner, "value", plus_one)
    assert owner().value(3, more=4) == 11
    assert Doubled().value(3, more=4) == 10
    assert owner.value.__wrapped__ is original
    assert owner.value.__doc__ == "Its own words."


def test_a_method_that_is_not_there_is_told():
    with pytest.raises(KeyError, match="other"):
        around_method(Doubled, "other", plus_one)
    with pytest.raises(KeyError):  # of a base class, for whose others it would change too
        around_method(type("Below", (Doubled,), {}), "value", plus_one)


@pytest.fixture
def modules(monkeypatch):
    """A module with a function, one that imported it, one that has another of that name."""

    def function(number):
        return number

    made = {name: ModuleType(name) for name in ("made_first", "made_copy", "made_other")}
    made["made_first"].function = made["made_copy"].function = function
    made["made_other"].function = plus_one
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    # As some packages leave there.
    monkeypatch.setitem(sys.modules, "made_none", None)
    return SimpleNamespace(**made, function=function)


def test_a_function_is_surrounded_once_wherever_it_was_imported(modules):
    for _ in range(3):
        around_function(modules.made_first, "function", plus_one)
    assert modules.made_first.function(3) == 4
    assert modules.made_copy.function is modules.made_first.function
    assert modules.made_other.function is plus_one
    assert modules.made_first.function.__wrapped__ is modules.function


def test_nothing_is_imported_while_modules_are_looked_through(modules, monkeypatch):
    class Lazy(ModuleType):
        def __getattr__(self, name):
            raise AssertionError(f"{name} would be imported")

    monkeypatch.setitem(sys.modules, "made_lazy", Lazy("made_lazy"))
    around_function(modules.made_first, "function", plus_one)


# What a front end does with a request.


class Refused(ValueError):
    def __init__(self, message, parameter=None):
        super().__init__(message)
        self.parameter = parameter


class Vectors:
    of, names = "digest", ("joy",)

    def __init__(self, kinds=KINDS[7]):
        self.kinds = kinds

    def resolve(self, extra):
        emotion, _ = extra.pop("emotion", None), extra.pop("strength", None)
        if emotion not in (None, "joy"):
            raise SteeringError(f"what is {emotion}?")
        return Asked(JOY if emotion else None, self.kinds)


@pytest.fixture(autouse=True)
def _vllm(monkeypatch):
    exceptions = ModuleType("vllm.exceptions")
    exceptions.VLLMValidationError = Refused
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.exceptions", exceptions)


class Processor:
    """As vLLM's: what it makes has a copy of the parameters."""

    def __init__(self, said=True):
        config = {"emokernel": {"vectors": "v"}} if said else {}
        self.vllm_config = SimpleNamespace(additional_config=config)

    def process_inputs(self, request_id, prompt, params, supported_tasks=None, **kwargs):
        copied = params and SimpleNamespace(extra_args=params.extra_args)
        return SimpleNamespace(sampling_params=copied, told=(request_id, prompt, kwargs))


def processed(extra, said=True, vectors=None, name="id", **kwargs):
    given = SimpleNamespace(extra_args=extra)
    before = dict(extra) if extra else extra
    made = hooks._process_inputs(
        lambda settings: vectors or Vectors(), Processor.process_inputs, Processor(said),
        name, "prompt", given, **kwargs,
    )  # fmt: skip
    assert given.extra_args == before  # the caller's own stay
    return made.sampling_params


def test_what_a_request_asks_for_becomes_numbers():
    params = processed({"emotion": "joy", "strength": 1.0, "other": 2})
    assert params.extra_args.keys() == {KEY, "other"}
    assert held(params)["head"] == JOY.head
    assert held(params)["of"] == "digest"


@pytest.mark.parametrize("extra", [None, {}, {"other": 2}])
@pytest.mark.parametrize("said", [True, False])
def test_who_asks_for_nothing_is_as_without_us(extra, said):
    assert processed(extra, said).extra_args == (extra or extra)
    pooled = hooks._process_inputs(None, Processor.process_inputs, Processor(), "i", "p", None)
    assert pooled.sampling_params is None


def test_who_asks_for_no_emotion_has_none():
    assert processed({"emotion": None}).extra_args is None
    assert processed({"emotion": None, "other": 2}).extra_args == {"other": 2}


@pytest.mark.parametrize(
    ("extra", "said", "message"),
    [
        ({"emotion": "envy"}, True, "what is envy"),
        ({KEY: {"head": b""}}, True, "reserved"),
        ({KEY: {"head": b""}}, False, "reserved"),
        *(({name: "joy"}, False, "this server has no emotion vectors") for name in ASKING),
    ],
)
def test_what_cannot_be_is_vllms_400(extra, said, message):
    with pytest.raises(Refused, match=message) as told:
        processed(extra, said)
    assert told.value.parameter == "emotion"


def test_a_strength_without_an_emotion_is_no_wish_where_nobody_is_steered():
    """Other plugins may have parameters of such names."""
    assert processed({"strength": 2}, said=False).extra_args == {"strength": 2}


def test_a_streamed_session_is_steered_throughout_or_not_at_all():
    asking = {"emotion": "joy"}
    assert held(session("one", asking))
    assert held(session("one", asking))
    assert held(processed(asking, vectors=Vectors(KINDS[4]), resumable=False))
    for kinds in KINDS[1:7]:
        with pytest.raises(Refused, match="positions 'all' only"):
            session("one", asking, Vectors(kinds))
    with pytest.raises(Refused, match="keeps the emotion that it began with"):
        session("one", {"emotion": None})
    assert held(session("two", {"emotion": None}, Vectors(KINDS[4]))) is None
    with pytest.raises(Refused, match="keeps the emotion that it began with"):
        session("two", asking)


def session(name, extra, vectors=None):
    """One of the inputs of a streamed session, which are processed in one context."""
    return processed(extra, vectors=vectors, name=name, resumable=True)


# What the core does.


def core(said=True, *workers):
    config = SimpleNamespace(additional_config={"emokernel": {"vectors": "v"}} if said else {})
    executor = SimpleNamespace(collective_rpc=lambda name: list(workers))
    return SimpleNamespace(vllm_config=config, model_executor=executor)


FIRST, SECOND = {"of": "a", "layers": [0, 1]}, {"of": "a", "layers": [2, 3]}


def test_a_core_begins_when_all_its_workers_steer():
    begun = core(True, SECOND, FIRST)
    assert hooks._begin_core(lambda core, more: more, begun, 7) == 7
    assert begun.emokernel_of == "a"
    assert hooks._core_status(begun) == {"of": "a", "layers": [0, 1, 2, 3]}


@pytest.mark.parametrize("workers", [(None,), (FIRST, None), (FIRST, {"of": "b", "layers": [2]})])
def test_a_core_with_a_worker_that_does_not_steer_does_not_begin(workers):
    with pytest.raises(SteeringError, match="not every worker steers"):
        hooks._begin_core(pytest.fail, core(True, *workers))


def test_a_core_that_steers_nothing_refuses_what_asks():
    idle = core(False)
    hooks._begin_core(lambda core: None, idle)
    request = SimpleNamespace(sampling_params=SimpleNamespace(extra_args={"other": 1}))
    assert hooks._add_request(lambda core, request: "added", idle, request) == "added"
    request.sampling_params.extra_args = processed({"emotion": "joy"}).extra_args
    with pytest.raises(SteeringError, match="other vectors"):
        hooks._add_request(pytest.fail, idle, request)


def test_a_worker_tells_what_it_steers():
    steered = SimpleNamespace(of="a", layers=[1], more="else")
    worker = SimpleNamespace(model_runner=SimpleNamespace(emokernel=steered))
    assert hooks._worker_status(worker) == {"of": "a", "layers": [1]}
    assert hooks._worker_status(SimpleNamespace(model_runner=SimpleNamespace())) is None


def test_the_process_that_looks_at_models_is_left_alone(monkeypatch):
    main = SimpleNamespace(__spec__=SimpleNamespace(name="vllm.model_executor.models.registry"))
    monkeypatch.setitem(sys.modules, "__main__", main)
    hooks.install(pytest.fail)  # imports nothing of vLLM, which is not there
