"""A server that was asked to steer and cannot does not start, and says why."""

from __future__ import annotations

import pytest
from real_vllm.server import NAME, Server

from emokernel.errors import EmokernelError


def test_what_is_served(engines, embedded, smollm2, scratch):
    """`vllm serve`: a file that is missing, vectors of another model; and one without the plugin.

    The last cannot know of emotions: that it has no list of them is how it is told apart.
    """
    engines.close()
    missing = {"vectors": str(scratch / "no-such-file.safetensors")}
    plain = Server(embedded.folder, scratch / "plain.log", VLLM_PLUGINS="")
    wrong = {
        "no-such-file": Server(embedded.folder, scratch / "missing.log", missing),
        "30 layers of width 576": Server(
            embedded.folder, scratch / "other.log", smollm2.emotions()
        ),
    }
    with plain:
        assert plain.ask("/v1/emotions")[0] == 404
        body = {"model": NAME, "prompt": "They told us", "max_tokens": 2, "emotion": "joy"}
        assert plain.ask("/v1/completions", body)[0] == 200
    for reason, server in wrong.items():
        assert server.ended() != 0
        assert reason in server.output()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"vectors": None}, "vectors"), ({"site": "block"}, "vectors"), ({"side": "block"}, "side"),
        ({"site": "nowhere"}, "site"), ({"law": "x"}, "law"), ({"dose": "x"}, "dose"),
        ({"positions": "x"}, "positions"), ({"layers": [99]}, "99"), ({"layers": "all"}, "layers"),
        ({"mapping": "x"}, "mapping"), ({"preset": "x"}, "preset"), ({"exact": "yes"}, "exact"),
        ({"backend": "x"}, "backend"),
    ],
)  # fmt: skip
def test_settings(engines, embedded, settings, reason):
    given = settings if settings in ({"site": "block"}, {"vectors": None}) else None
    with pytest.raises(EmokernelError, match=reason):
        engines(embedded, given or embedded.emotions(**settings))


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ({"enable_lora": True}, "LoRA"),
        ({"kv_transfer_config": {"kv_connector": "ExampleConnector", "kv_role": "kv_both"}}, "KV"),
    ],
)  # fmt: skip
def test_modes(engines, embedded, mode, reason):
    with pytest.raises(EmokernelError, match=reason):
        engines(embedded, embedded.emotions(), **mode)


def test_a_version_that_was_not_tried(engines, embedded, monkeypatch):
    monkeypatch.setattr("vllm.version.__version__", "0.99.0")
    with pytest.raises(EmokernelError, match=r"0\.99\.0"):
        engines(embedded, embedded.emotions())
    assert engines(embedded, embedded.emotions(any_version=True))


def test_a_server_without_vectors_refuses_emotions(engines, embedded):
    """Offline as over HTTP: the plugin is there, and was not told of any."""
    from real_vllm.cases import Case
    from vllm.exceptions import VLLMValidationError

    engine = engines(embedded)
    with pytest.raises(VLLMValidationError, match="no emotion vectors"):
        engine.texts([Case(embedded.prompts[0], "joy")], 2)
    assert len(engine.texts([Case(embedded.prompts[0])], 2)[0].tokens) == 2
